"""Files in int8: they hold whole numbers, and compute what fake quantisation has simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.envs.models import get_model
from secateur.envs.quantization import export_int8, integer_network, quantize_
from secateur.envs.quantization.fake import fake_quantize_weight
from secateur.envs.quantization.integer_files import TOLERANCE, require_packages
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.sparsity import apply_masks
from secateur.envs.surgery.export import EXACT_SUMS, export
from secateur.envs.tasks import ClassificationTask
from support.made import forward_of
from support.onnx import needs_onnx
from support.quantized import needs_torchao, residual

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def trained(digit_task: ClassificationTask) -> nn.Module:
    """A network that has learned under quantisation, so that its batch-norms are no identity."""
    model = quantize_(residual(), digit_task)
    finetune(model, digit_task, RecoveryConfig(epochs=3, learning_rate=0.1, distillation_weight=0.0))
    return model.eval()


def run_onnx(path: Path, inputs: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_SUMS)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return torch.from_numpy(outputs)


def assert_agree(found: Tensor, simulated: Tensor) -> None:
    """Allow a few steps of rounding: a sum in the middle of two whole numbers may go up or down."""
    assert (found - simulated).abs().max() < 0.03 * simulated.abs().max()
    assert (found.argmax(1) == simulated.argmax(1)).float().mean() > 0.995


def test_the_whole_numbers_are_those_of_the_simulation_with_batch_norm_folded(trained: nn.Module) -> None:
    integer = integer_network(trained, "torch")
    norm = trained.bn1
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    folded = fake_quantize_weight(trained.conv1.weight) * factor.view(-1, 1, 1, 1)
    layer = integer.conv1.integer_weight
    assert layer.values.dtype == torch.int8
    torch.testing.assert_close(layer.values * layer.scales.view(-1, 1, 1, 1), folded.detach())
    assert isinstance(integer.bn1, nn.Identity)
    assert isinstance(trained.bn1, nn.BatchNorm2d)


@needs_onnx
def test_a_file_in_onnx_computes_what_was_simulated_with_int8_weights(
    trained: nn.Module, digit_task: ClassificationTask, tmp_path: Path
) -> None:
    import onnx

    written = export_int8(trained, tmp_path / "int8.onnx", "onnx-int8", SHAPE, metadata={"source": "test"})
    assert written.difference < TOLERANCE
    x, _ = digit_task.batch("test", torch.arange(digit_task.size("test")))
    with torch.no_grad():
        assert_agree(run_onnx(written.path, x), trained(x))
    model = onnx.load(str(written.path))
    weights = [one for one in model.graph.initializer if len(one.dims) > 1]
    assert {one.data_type for one in weights} == {onnx.TensorProto.INT8}
    assert len(weights) == 4
    assert {prop.key: prop.value for prop in model.metadata_props} == {"source": "test"}


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "resnet20", "mobilenet_v2"])
def test_onnxruntime_computes_all_convolutions_in_int8_and_the_file_is_a_quarter_in_onnx(
    name: str, tmp_path: Path, digit_task: ClassificationTask
) -> None:
    import onnx
    import onnxruntime

    from secateur.envs.quantization import fake_quantize_
    from secateur.envs.quantization.fake import ActivationRange

    shape, x = (3, 32, 32), torch.randn(16, 3, 32, 32)
    model = get_model(name, num_classes=10, in_channels=3).eval()
    in_float = export(model, tmp_path / "float.onnx", "onnx", shape).path
    ranges = [m for m in fake_quantize_(model, x).modules() if isinstance(m, ActivationRange)]
    for one in ranges:
        one.calibration_batches = 0
    with torch.no_grad():
        model(x)
    for one in ranges:
        one.calibration_batches = None
    small = export_int8(model, tmp_path / "int8.onnx", "onnx-int8", shape).path
    assert small.stat().st_size < 0.31 * in_float.stat().st_size
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert kinds.count("QLinearConv") == convolutions
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul"} & set(kinds)


def called_twice() -> nn.Module:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(F.relu(self.conv(F.relu(self.stem(x)))))).mean((2, 3)))

    stem, conv = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
    return forward_of(forward, stem=stem, conv=conv, head=nn.Linear(6, 10))


def of_one_weight() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3))
    model[4].weight = model[2].weight
    return model.append(nn.Flatten()).append(nn.Linear(24, 10))


def linear_twice_over_rows() -> nn.Module:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.linear(x.squeeze(1)))).mean(1)

    return forward_of(forward, linear=nn.Linear(8, 8))


@needs_onnx
@pytest.mark.parametrize("build", [called_twice, of_one_weight, linear_twice_over_rows])
def test_layers_that_are_called_twice_or_share_a_weight_are_written_in_onnx(
    build: Callable[[], nn.Module], digit_task: ClassificationTask, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = quantize_(build().eval(), digit_task)
    path = export_int8(model, tmp_path / "int8.onnx", "onnx-int8", SHAPE).path
    x, _ = digit_task.batch("test", torch.arange(20))
    with torch.no_grad():
        simulated = model(x)
    assert (run_onnx(path, x) - simulated).abs().max() < 0.05 * simulated.abs().max()


@needs_onnx
def test_masked_weights_stay_zero_in_onnx(digit_task: ClassificationTask, tmp_path: Path) -> None:
    import onnx

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32)).eval()
    mask = torch.rand(32, 64) < 0.3
    apply_masks(model, {"1.weight": mask})
    quantize_(model, digit_task)
    path = export_int8(model, tmp_path / "int8.onnx", "onnx-int8", SHAPE).path
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer}
    (values,) = [value for value in weights.values() if value.dtype == "int8" and value.size == mask.numel()]
    values = torch.from_numpy(values.copy())
    values = values if values.shape == mask.shape else values.T
    assert not values[~mask].any()
    assert (values[mask] != 0).float().mean() > 0.95


@needs_torchao
def test_a_file_in_torchao_computes_what_was_simulated(
    trained: nn.Module, digit_task: ClassificationTask, tmp_path: Path
) -> None:
    normalisation = ((0.3,), (0.4,))
    written = export_int8(trained, tmp_path / "int8.pt2", "torchao", SHAPE, normalisation=normalisation)
    program = torch.export.load(written.path)
    images = torch.randint(0, 256, (50, *SHAPE), dtype=torch.uint8)
    with torch.no_grad():
        assert_agree(program.module()(images), trained((images / 255 - 0.3) / 0.4))
    weights = [value for name, value in program.state_dict.items() if name.endswith("integer_weight.values")]
    assert [value.dtype for value in weights] == 4 * [torch.int8]
    assert not any(name.endswith(".weight") for name in program.state_dict)


def test_wrong_uses_are_refused_in_a_sentence(
    trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.envs.quantization.integer_files.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'secateur\[quantize\]'"):
        require_packages("torchao")
    monkeypatch.setattr("secateur.envs.surgery.export.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'secateur\[onnx\]'"):
        export_int8(trained, tmp_path / "x.onnx", "onnx-int8", SHAPE)
    monkeypatch.setattr("secateur.envs.quantization.integer_files.find_spec", lambda name: True)
    with pytest.raises(ValueError, match=r"not under fake quantisation; call quantize_"):
        export_int8(nn.Linear(3, 4), tmp_path / "x.pt2", "torchao", (3,))
    (tmp_path / "there").touch()
    with pytest.raises(ValueError, match="there exists"):
        export_int8(trained, tmp_path / "there", "torchao", SHAPE)
