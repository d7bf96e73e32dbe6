"""How good resized models are, measured row by row; `config.json` says which rows."""
