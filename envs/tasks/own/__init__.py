"""Tasks on data of one's own: tensors, data sets and data loaders of any kind and size."""
