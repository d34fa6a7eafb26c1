from .evaluator import CandidateEvaluator as CandidateEvaluator
from .factory import EvaluatorFactory as EvaluatorFactory
from .journal import Journal as Journal
