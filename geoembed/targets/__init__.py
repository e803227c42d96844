"""What there is to predict: values of rasters and labels of polygons at places."""

__all__: list[str] = []
