"""Depths by names, against tables written down from the towers' structure."""

import open_clip
import pytest

from training.engine.update.depth import block_of, depths

TABLES = [
    (  # open_clip's ViT: plain parameters are registered before the blocks
        ["class_embedding", "positional_embedding", "proj", "conv1.weight", "ln_pre.bias",
         "transformer.resblocks.0.ln_1.weight", "transformer.resblocks.0.attn.in_proj_weight",
         "transformer.resblocks.1.mlp.c_fc.weight", "ln_post.weight"],
        [3, 3, 0, 3, 3, 2, 2, 1, 0], 2,
    ),
    (  # open_clip's text tower
        ["positional_embedding", "text_projection", "token_embedding.weight", "transformer.resblocks.0.ln_1.weight",
         "ln_final.weight"],
        [2, 0, 2, 1, 0], 1,
    ),
    (  # ResNet: blocks of four layers
        ["conv1.weight", "bn3.bias", "layer1.0.conv1.weight", "layer1.0.downsample.0.weight", "layer1.1.bn1.weight",
         "layer2.0.conv1.weight", "attnpool.positional_embedding"],
        [4, 4, 3, 3, 2, 1, 0], 3,
    ),
    (  # timm's ViT
        ["trunk.cls_token", "trunk.pos_embed", "trunk.patch_embed.proj.weight", "trunk.blocks.0.mlp.fc1.weight",
         "trunk.blocks.10.norm1.weight", "trunk.norm.weight", "head.proj.weight"],
        [3, 3, 3, 2, 1, 0, 0], 2,
    ),
    (  # ConvNeXt: a downsampling belongs to the block behind it
        ["trunk.stem.0.weight", "trunk.stages.0.blocks.0.conv_dw.weight", "trunk.stages.0.blocks.1.mlp.fc1.weight",
         "trunk.stages.1.downsample.1.weight", "trunk.stages.1.blocks.0.gamma", "trunk.head.norm.weight",
         "head.proj.weight"],
        [4, 3, 2, 1, 1, 0, 0], 3,
    ),
    (  # EfficientNet: blocks of blocks; mlp.0 inside a block is none
        ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.0.1.mlp.0.weight", "blocks.1.0.mlp.2.weight",
         "conv_head.weight"],
        [4, 3, 2, 1, 0], 3,
    ),
    (  # Swin, downsampling at a stage's end
        ["patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight", "layers.0.downsample.norm.weight",
         "layers.1.blocks.0.norm1.weight", "norm.weight"],
        [3, 2, 2, 1, 0], 2,
    ),
    (  # BERT in open_clip's HF tower
        ["transformer.embeddings.word_embeddings.weight", "transformer.encoder.layer.0.attention.self.query.weight",
         "transformer.encoder.layer.1.output.dense.weight", "transformer.pooler.dense.weight", "proj.0.weight"],
        [3, 2, 1, 0, 0], 2,
    ),
    (  # T5: a block's two layers are one block
        ["transformer.shared.weight", "transformer.encoder.block.0.layer.0.SelfAttention.q.weight",
         "transformer.encoder.block.0.layer.1.DenseReluDense.wi.weight",
         "transformer.encoder.block.1.layer.0.SelfAttention.q.weight", "transformer.encoder.final_layer_norm.weight"],
        [3, 2, 2, 1, 0], 2,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("names", "wanted", "blocks"), TABLES)
def test_depths_are_those_of_the_table(names, wanted, blocks) -> None:
    assert depths(names) == (dict(zip(names, wanted, strict=True)), blocks)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [("ViT-B-32", 12, 12), ("RN50", 16, 12), ("convnext_base", 36, 12), ("ViT-B-16-SigLIP", 12, 12),
     ("EVA02-B-16", 12, 12), ("ViTamin-S", 20, 12), ("MobileCLIP-S1", 40, 12), ("coca_ViT-B-32", 12, 12),
     ("swin_base_patch4_window7_224", 24, 12)],
)  # fmt: skip
def test_the_blocks_of_open_clips_towers_are_counted(name, image, text) -> None:
    import torch

    with torch.device("meta"):
        model = open_clip.CustomTextCLIP(
            **{key: value for key, value in _offline(open_clip.get_model_config(name)).items()}
        )
    for tower, blocks in ((model.visual, image), (model.text, text)):
        names = [one for one, _ in tower.named_parameters()]
        depth, found = depths(names)
        assert found == blocks
        assert sorted({depth[one] for one in names if block_of(one)}) == list(range(1, blocks + 1))
        assert {0, blocks + 1} <= set(depth.values()), "a head and a stem"


def _offline(config: dict) -> dict:
    config.pop("custom_text", None)
    config.pop("multimodal_cfg", None)
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def test_both_halves_of_a_decoders_block_are_of_a_block_and_its_last_layer_is_not() -> None:
    for half in ("resblocks", "cross_attn"):
        assert block_of(f"decoder.{half}.3.mlp.c_fc.weight") == ("decoder", half, "3")
    assert block_of("decoder.text_projection") is None
