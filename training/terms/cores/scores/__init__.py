"""The scores of a tile, and what is made of them: by torch, pass after pass, or by kernels of Triton, in one."""
