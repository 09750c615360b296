"""Other trainers' configs, read and written: sd-scripts and kohya_ss, ai-toolkit, OneTrainer.

One file a trainer. Each reads a flat mapping of that trainer's keys through a `Ledger`, which remembers what
became of every one of them: taken, changed, ignored, unknown, wrong. Nothing is dropped in silence.
"""
