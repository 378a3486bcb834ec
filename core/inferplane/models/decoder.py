"""A decoder-only transformer. Legend: T tokens, B rows with wanted logits, C hidden, V vocab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from inferplane.layers.attention import AttentionConfig, attention_block
from inferplane.layers.builder import Builder
from inferplane.layers.latent import latent_block
from inferplane.layers.mlp import MLPConfig, gated_mlp
from inferplane.layers.moe import moe_block
from inferplane.plugins.site import Site
from inferplane.spec import LayerRequest, Step

from .config import DecoderConfig, read_decoder


class DecoderLayer:
    """Norm, attention, norm, MLP or experts, with the residual added inside the norms."""

    def __init__(self, config: DecoderConfig, index: int, build: Builder) -> None:
        self.norm_in = build.add_norm(
            "input_layernorm", config.hidden, config.norm_eps, first=index == 0
        )
        if config.latent is not None:
            self.attention = latent_block(build, "self_attn", config.latent)
        else:
            self.attention = attention_block(build, "self_attn", attention_config(config, index))
        self.norm_mlp = build.add_norm("post_attention_layernorm", config.hidden, config.norm_eps)
        if config.moe is not None and index in config.moe_layers:
            self.mlp = moe_block(build, config.moe_path, config.moe)
        else:
            self.mlp = gated_mlp(build, "mlp", mlp_config(config))

    def __call__(self, x_TC: Any, residual_TC: Any, step: Step) -> tuple[Any, Any]:
        x_TC, residual_TC = self.norm_in(x_TC, residual_TC)
        x_TC = self.attention(x_TC, step)
        x_TC, residual_TC = self.norm_mlp(x_TC, residual_TC)
        return self.mlp(x_TC), residual_TC


def attention_config(config: DecoderConfig, index: int) -> AttentionConfig:
    return AttentionConfig(
        hidden=config.hidden,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        rope=config.rope,
        window=config.window(index),
        sinks=config.sinks,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        qk_norm_eps=config.norm_eps if config.qk_norm else None,
    )


def mlp_config(config: DecoderConfig) -> MLPConfig:
    return MLPConfig(
        hidden=config.hidden,
        intermediate=config.intermediate,
        activation=config.activation,
        bias=config.mlp_bias,
    )


class Decoder:
    """Embedding, layers, final norm, output projection. Families change `read` or the layer."""

    architecture: ClassVar[str] = ""
    layer_class: ClassVar[type] = DecoderLayer

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        """The config of this family, from config.json. Raises UserError."""
        return read_decoder(raw, cls.architecture)

    def __init__(self, config: DecoderConfig, build: Builder) -> None:
        self.config = config
        self.context = build.context
        body = build.at("model")
        self.embed = body.embedding("embed_tokens", config.vocab, config.hidden)
        self.layers = [self._layer(index, body) for index in range(config.layers)]
        self.norm = body.add_norm("norm", config.hidden, config.norm_eps)
        # a tied head reads the embedding's tensor; its site keeps a path of its own
        part = "model.embed_tokens" if config.tied else "lm_head"
        self.lm_head = build.linear(
            "lm_head",
            config.hidden,
            {part: config.vocab},
            tied_to=part if config.tied else "",
            plain=True,
        )

    def _layer(self, index: int, build: Builder) -> Any:
        def request(sites: list[Site]) -> LayerRequest:
            parts = [site.request for site in sites if site.request]
            return LayerRequest(
                device=build.context.props,
                architecture=self.config.architecture,
                index=index,
                parts=tuple(parts),
            )

        def make(inner: Builder) -> Any:
            return self.layer_class(self.config, index, inner)

        return build.compose(f"layers.{index}", make, request, layer=index)

    def forward(self, step: Step) -> Any:
        """Hidden states [T, C] after the final norm."""
        step.rotary = [k.step(table, step.positions_T) for k, table in self.context.rotary_states]
        x_TC, residual_TC = self.embed(step.tokens_T), None
        for index, layer in enumerate(self.layers):
            step.layer = index
            x_TC, residual_TC = layer(x_TC, residual_TC, step)
            if index in step.keep_layers:
                step.kept.append(x_TC + residual_TC)
        return self.norm(x_TC, residual_TC)[0]

    def logits(self, hidden_BC: Any) -> Any:
        """fp32 [B, V]."""
        return self.lm_head(hidden_BC).float()
