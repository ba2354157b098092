"""What a training is going to cost, from the same formulae as the code; nothing is trained and no weight is made.

model.py      the towers without memory: parameters, what the optimizer keeps, what a forward and a backward do
watch.py      what operations do and hold, counted while they run on tensors that have shapes alone
weights.py    what a rank holds of parameters, gradients and moments, by ZeRO stage
traffic.py    what a rank receives in a step, terms and companions apart
company.py    what companions hold, do and move
timing.py     how long a step takes on a device
reading.py    what the reader has to deliver
saving.py     checkpoints: their size, time and interval
advice.py     what does not fit or waits, in words, with what to type
plan.py       a run, stage by stage
"""
