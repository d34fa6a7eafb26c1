"""Tasks on images of classes: folders, known data sets, and where the images are kept."""
