"""What is trained on: terms of the loss, and the arithmetic under them."""
