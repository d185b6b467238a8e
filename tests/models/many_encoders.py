"""Tiny random encoders of any architecture of transformers."""

import torch
from transformers import AutoConfig, AutoModel

from tests.tiny import make_tokenizer

# Sizes by the names that configs give them.
SIZES = {
    16: "hidden_size d_model n_embd dim embedding_size emb_dim entity_emb_size moe_intermediate_size d_latents "
    "num_latents",
    3: "num_hidden_layers n_layers n_layer num_layers encoder_layers decoder_layers num_encoder_layers "
    "num_decoder_layers num_self_attends_per_block",
    2: "num_attention_heads n_heads n_head num_heads encoder_attention_heads decoder_attention_heads "
    "num_key_value_heads num_encoder_attention_heads num_decoder_attention_heads num_local_experts num_experts "
    "n_routed_experts eos_token_id",
    32: "intermediate_size hidden_dim d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim n_inner d_inner inner_dim "
    "ffn_hidden_size",
    8: "d_kv d_head head_dim attention_window block_size",
    4: "rotary_dim num_global_tokens",
    64: "max_position_embeddings n_positions n_ctx",
    400: "vocab_size src_vocab_size tgt_vocab_size entity_vocab_size shape_vocab_size pronunciation_vocab_size",
    1: "pad_token_id num_experts_per_tok",
    0: "bos_token_id",
}


def tiny_config(model_type):
    """Return a config with three layers of size 16."""
    given = vars(AutoConfig.for_model(model_type))
    numbers = {name for name, value in given.items() if not isinstance(value, (list, dict))}
    sizes = {name: size for size, names in SIZES.items() for name in names.split() if name in numbers}
    return AutoConfig.for_model(model_type, **sizes)


def save_any_encoder(model_type, folder):
    """Write a tiny random model of a type, whole as users have it, with a tokenizer."""
    torch.manual_seed(0)
    AutoModel.from_config(tiny_config(model_type)).save_pretrained(folder)
    make_tokenizer("wordpiece").save_pretrained(folder)
    return folder
