"""Teaching the LeNet: recipes, fitting, calibration, and the procedure that publishes a model.

``recipes`` and ``calibration`` are plain arithmetic; only ``fitting`` and ``retraining`` import
Keras. Nothing here decodes pictures, records inspections or talks to a terminal.
"""
