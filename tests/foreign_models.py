"""Small GPTs as others write them, in plain torch: nanoGPT's, and that of the best-known lecture. Their weights are
drawn, so that every part of them counts.
"""

from __future__ import annotations

import math
import pickle

import torch
from torch import nn
from torch.nn import functional as F

TEXT = "First Citizen:\nWe are accounted poor citizens, the patricians good. 1623: KQXJ; vbm-lk!\n\n" * 20
CHARACTERS = sorted(set(TEXT))
STOI = {character: id for id, character in enumerate(CHARACTERS)}
ITOS = dict(enumerate(CHARACTERS))
V = len(CHARACTERS)


def drawn(model, seed=0):
    """The model with every weight drawn, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval().requires_grad_(False)


def windows(rows, vocab_size=V, batch=3):
    return torch.randint(vocab_size, (batch, rows), generator=torch.Generator().manual_seed(5))


class NanoNorm(nn.Module):
    def __init__(self, C, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))
        self.bias = nn.Parameter(torch.zeros(C)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class NanoAttention(nn.Module):
    def __init__(self, C, H, T, bias):
        super().__init__()
        self.c_attn, self.c_proj, self.H = nn.Linear(C, 3 * C, bias=bias), nn.Linear(C, C, bias=bias), H
        self.register_buffer("bias", torch.tril(torch.ones(T, T)).view(1, 1, T, T))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (part.view(B, T, self.H, C // self.H).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf")).softmax(-1)
        return self.c_proj((att @ v).transpose(1, 2).contiguous().view(B, T, C))


class NanoMLP(nn.Module):
    def __init__(self, C, bias, approximate):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(C, 4 * C, bias=bias), nn.Linear(4 * C, C, bias=bias)
        self.approximate = approximate

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))


class NanoBlock(nn.Module):
    def __init__(self, C, H, T, bias, approximate):
        super().__init__()
        self.ln_1, self.attn = NanoNorm(C, bias), NanoAttention(C, H, T, bias)
        self.ln_2, self.mlp = NanoNorm(C, bias), NanoMLP(C, bias, approximate)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """nanoGPT's model: fused attention, GELU, a tied head."""

    def __init__(self, vocab_size=V, C=32, H=4, L=2, T=24, bias=False, approximate="none"):
        super().__init__()
        self.model_args = {
            "n_layer": L, "n_head": H, "n_embd": C, "block_size": T, "bias": bias, "vocab_size": vocab_size,
            "dropout": 0.0,
        }  # fmt: skip
        parts = {"wte": nn.Embedding(vocab_size, C), "wpe": nn.Embedding(T, C), "ln_f": NanoNorm(C, bias)}
        parts["h"] = nn.ModuleList(NanoBlock(C, H, T, bias, approximate) for _ in range(L))
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(C, vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        drawn(self)

    def forward(self, ids):
        x = self.transformer.wte(ids) + self.transformer.wpe(torch.arange(ids.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))

    def save(self, folder, *, compiled=False, meta=True, dataset="shakespeare_char"):
        """What nanoGPT's train.py leaves: `ckpt.pt` with its optimizer, and `meta.pkl`."""
        folder.mkdir(parents=True, exist_ok=True)
        prefix = "_orig_mod." if compiled else ""
        optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(3, 2))])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(3, 2)
        optimizer.step()
        checkpoint = {
            "model": {f"{prefix}{name}": tensor for name, tensor in self.state_dict().items()},
            "optimizer": optimizer.state_dict(), "model_args": self.model_args, "iter_num": 5000,
            "best_val_loss": torch.tensor(1.4697), "config": {"dataset": dataset, "betas": (0.9, 0.95)},
        }  # fmt: skip
        torch.save(checkpoint, folder / "ckpt.pt")
        if meta:
            (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": V, "itos": ITOS, "stoi": STOI}))
        return folder / "ckpt.pt"


class Head(nn.Module):
    def __init__(self, C, D, T, scale):
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(C, D, bias=False) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(T, T)))
        self.scale = scale

    def forward(self, x):
        T = x.shape[1]
        wei = self.query(x) @ self.key(x).transpose(-2, -1) * self.scale
        return wei.masked_fill(self.tril[:T, :T] == 0, float("-inf")).softmax(-1) @ self.value(x)


class MultiHead(nn.Module):
    def __init__(self, C, H, T, scale, projection):
        super().__init__()
        self.heads = nn.ModuleList(Head(C, C // H, T, scale) for _ in range(H))
        self.proj = nn.Linear(C, C) if projection else nn.Identity()

    def forward(self, x):
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class FeedForward(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(C, 4 * C), nn.ReLU(), nn.Linear(4 * C, C), nn.Dropout(0.0))

    def forward(self, x):
        return self.net(x)


class TutorialBlock(nn.Module):
    def __init__(self, C, H, T, scale, projection):
        super().__init__()
        self.sa, self.ffwd = MultiHead(C, H, T, scale, projection), FeedForward(C)
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)

    def forward(self, x):
        x = x + self.sa(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


class TutorialGPT(nn.Module):
    """The lecture's model: a Linear per head, ReLU, and a head with a bias."""

    def __init__(self, vocab_size=V, C=32, H=4, L=2, T=24, by="head", sinusoidal=False, projection=True):
        super().__init__()
        scale = (C // H if by == "head" else C) ** -0.5
        self.token_embedding_table = nn.Embedding(vocab_size, C)
        if sinusoidal:
            angles = torch.arange(2 * T)[:, None] * torch.exp(torch.arange(0, C, 2) * (-math.log(10_000.0) / C))
            pe = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # longer than the window, as is usual
            self.register_buffer("pe", pe[None])
        else:
            self.position_embedding_table = nn.Embedding(T, C)
        self.blocks = nn.Sequential(*(TutorialBlock(C, H, T, scale, projection) for _ in range(L)))
        self.ln_f, self.lm_head = nn.LayerNorm(C), nn.Linear(C, vocab_size)
        drawn(self)

    def forward(self, ids):
        T = ids.shape[1]
        positions = self.pe[0, :T] if hasattr(self, "pe") else self.position_embedding_table(torch.arange(T))
        return self.lm_head(self.ln_f(self.blocks(self.token_embedding_table(ids) + positions)))
