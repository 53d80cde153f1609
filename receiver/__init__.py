"""striv-receiver: a verified GitHub push goes in, a Tekton PipelineRun of Striv comes out."""

__version__ = "0.1.0"
