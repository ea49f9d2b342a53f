"""The nets: tensors in, tensors out. No video, no clock, no web; `pipelines` calls these, they call nobody here."""
