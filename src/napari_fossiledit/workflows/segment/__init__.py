"""Train, predict and evaluate models; read and write their files."""
