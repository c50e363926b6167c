"""Train, adapt, finetune, evaluate: each a short function over mmengine's Runner."""
