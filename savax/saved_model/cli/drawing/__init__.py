"""Pictures of a model's functions and objects, as SVG and as pages that open groups on a click."""
