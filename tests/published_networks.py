"""Small networks in the published layout, written with torch and torchvision alone.

Their ``state_dict`` has the published keys; what they compute is what an imported model must.
"""

import torch
import torchvision
from torch import Tensor, nn

from cpsd.models.heads.positions import sine_positions

WIDTH = 16
HEADS = 2
HEAD_WIDTH = 12
FEEDFORWARD = 24
FEATURES = 512


class PublishedLinear(nn.Module):
    """ResNet-18 in the layout of the published ResNet-101 and ResNeXt-50."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])
        self.classify = nn.Linear(FEATURES, num_labels)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.features(images).mean(dim=(2, 3)))
        return logits


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(WIDTH, 3 * HEADS * HEAD_WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(HEADS * HEAD_WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (HEADS, HEAD_WIDTH)) for part in self.to_qkv(tokens).chunk(3, dim=-1)
        )
        weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / HEAD_WIDTH**0.5).softmax(dim=-1)
        mixed: Tensor = self.to_out(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))
        return mixed


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(WIDTH, FEEDFORWARD),
            nn.GELU(),
            nn.Dropout(),
            nn.Linear(FEEDFORWARD, WIDTH),
            nn.Dropout(),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.net(tokens)
        return hidden


class PreNorm(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fn = fn

    def forward(self, tokens: Tensor) -> Tensor:
        branch: Tensor = self.fn(self.norm(tokens))
        return branch


class Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = PreNorm(fn)

    def forward(self, tokens: Tensor) -> Tensor:
        branch: Tensor = self.fn(tokens)
        return tokens + branch


class Layers(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(Residual(SelfAttention()), Residual(Net())) for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class PublishedTransformer(nn.Module):
    """The layout of the published ResNet101+TF; ``embeddings`` come from elsewhere."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = [embeddings]  # in a list, so that it is no part of the state
        self.features = nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])
        self.fc = nn.Sequential(nn.Linear(FEATURES, WIDTH))
        self.label_emb = nn.Sequential(nn.Linear(embeddings.shape[1], WIDTH), nn.ReLU())
        self.transformer = Layers(2)
        self.classify = nn.Sequential(nn.Linear(WIDTH, 1))

    def forward(self, images: Tensor) -> Tensor:
        image = self.fc(self.features(images).flatten(2).transpose(1, 2))
        labels = self.label_emb(self.embeddings[0]).expand(len(images), -1, -1)
        tokens = self.transformer(torch.cat([image, labels], dim=1))
        logits: Tensor = self.classify(tokens[:, image.shape[1] :])[..., 0]
        return logits


class EncoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.linear1 = nn.Linear(WIDTH, FEEDFORWARD)
        self.linear2 = nn.Linear(FEEDFORWARD, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        placed = tokens + positions
        tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens)[0])
        hidden: Tensor = self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))
        return hidden


class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.linear1 = nn.Linear(WIDTH, FEEDFORWARD)
        self.linear2 = nn.Linear(FEEDFORWARD, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.norm3 = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor, queries: Tensor, image: Tensor, positions: Tensor) -> Tensor:
        attended = self.multihead_attn(tokens + queries, image + positions, image)[0]
        tokens = self.norm2(tokens + attended)
        hidden: Tensor = self.norm3(tokens + self.linear2(self.linear1(tokens).relu()))
        return hidden


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([EncoderLayer()])
        self.decoder = Decoder()


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torchvision.models.resnet18()
        self.body.avgpool = nn.Identity()
        self.body.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        flat: Tensor = self.body(images)  # flattened to (B, D H' W') by the last line of ResNet
        side = round((flat.shape[1] / FEATURES) ** 0.5)
        return flat.reshape(-1, FEATURES, side, side)


class Weights(nn.Module):
    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(1, num_labels, WIDTH))
        self.b = nn.Parameter(torch.zeros(1, num_labels))


class Positions(nn.Module):
    """Positions of some other grid, as a checkpoint for other pictures has them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pe", torch.full((1, 2048, 3, 3), 7.0))


class PublishedQuery(nn.Module):
    """The layout of the published Q2L-R101."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([Body(), Positions()])
        self.input_proj = nn.Conv2d(FEATURES, WIDTH, 1)
        self.query_embed = nn.Embedding(num_labels, WIDTH)
        self.transformer = EncoderDecoder()
        self.fc = Weights(num_labels)

    def forward(self, images: Tensor) -> Tensor:
        features = self.input_proj(self.backbone[0](images))
        height, width = features.shape[-2:]
        places = sine_positions(height, width, WIDTH, like=features)
        image = features.flatten(2).transpose(1, 2)
        image = self.transformer.encoder.layers[0](image, places)  # type: ignore[index, operator]
        queries = self.query_embed.weight.expand(len(images), -1, -1)
        tokens = torch.zeros_like(queries)
        for layer in self.transformer.decoder.layers:
            tokens = layer(tokens, queries, image, places)
        tokens = self.transformer.decoder.norm(tokens)
        logits: Tensor = (tokens * self.fc.W).sum(dim=-1) + self.fc.b
        return logits


def randomized(network: nn.Module) -> nn.Module:
    """Give every weight and running statistic a value of its own, and leave training mode."""
    generator = torch.Generator().manual_seed(6)
    for key, value in network.state_dict().items():
        if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and not key.endswith(".pe"):
            value.normal_(0, 1 / max(1, value[0].numel()) ** 0.5, generator=generator)
    return network.eval()
