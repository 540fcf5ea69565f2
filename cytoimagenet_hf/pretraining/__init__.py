"""Pretraining: from any labelled image data set to a model that timm and transformers load."""
