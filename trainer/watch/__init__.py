"""Watch a training from inside its child: sample the machine, say what holds the training back, and cure it.

No torch in here: `trainer.ultralytics_backend.pulse` is where the watch meets the training.
"""
