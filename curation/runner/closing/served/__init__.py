"""What a Generate asks of a server: alone on its columns, share by share, each answer durable before it counts.

alone.py keeps other runs out; share.py asks; fold.py brings in what killed ones left; kept.py says what is answered.
"""
