"""The PyTorch side of bench/curvature.ts: the same network and derivatives, timed on request.

usage: curvature.py FOLDER BATCH KIND THREADS PROBES

FOLDER is a Hugging Face checkpoint of ViTForImageClassification. Gates of KIND (tokens or masks), [batch, layers * tokens], are ones and
the loss is the cross-entropy summed over the samples. A line on standard input names one of `works`; the answer is a line of JSON with
the milliseconds it took.
"""
import json, math, resource, struct, sys, time
import torch, torch.nn.functional as F

folder, batch, kind, threads, probes = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(threads)


def load(path):
    """The tensors of a float32 safetensors file, by name."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    return {name: torch.frombuffer(data, dtype=torch.float32, offset=e["data_offsets"][0], count=math.prod(e["shape"])).view(e["shape"])
            for name, e in header.items() if name != "__metadata__"}


c = json.load(open(f"{folder}/config.json"))
sd = load(f"{folder}/model.safetensors")
D, H, L, P = c["hidden_size"], c["num_attention_heads"], c["num_hidden_layers"], c["patch_size"]
T, d, eps = (c["image_size"] // P) ** 2 + 1, D // H, c["layer_norm_eps"]
w = lambda name: sd["vit." + name]


def forward(gates, x):
    """Logits [B, classes] of gates [B, L * T] and pixels [B, C, H, W]."""
    linear = lambda z, name: F.linear(z, w(name + ".weight"), w(name + ".bias"))
    norm = lambda z, name: F.layer_norm(z, (D,), w(name + ".weight"), w(name + ".bias"), eps)
    projection = "embeddings.patch_embeddings.projection"
    h = F.conv2d(x, w(projection + ".weight"), w(projection + ".bias"), stride=P).flatten(2).transpose(1, 2)
    h = torch.cat([w("embeddings.cls_token").expand(batch, -1, -1), h], 1) + w("embeddings.position_embeddings")
    bias = None
    for l in range(L):
        p, m = f"encoder.layer.{l}.", gates[:, l * T:(l + 1) * T]
        if kind == "tokens":
            h = h * m[:, :, None]
        else:
            bias = m.log() if bias is None else bias + m.log()
        z = norm(h, p + "layernorm_before")
        q, k, v = (linear(z, p + "attention.attention." + part).view(batch, T, H, d).transpose(1, 2) for part in ("query", "key", "value"))
        s = (q / math.sqrt(d)) @ k.transpose(-1, -2)
        s = s if bias is None else s + bias[:, None, None, :]
        h = h + linear((s.softmax(-1) @ v).transpose(1, 2).reshape(batch, T, D), p + "attention.output.dense")
        z = norm(h, p + "layernorm_after")
        h = h + linear(F.gelu(linear(z, p + "intermediate.dense")), p + "output.dense")
    return F.linear(norm(h, "layernorm")[:, 0], sd["classifier.weight"], sd["classifier.bias"])


torch.manual_seed(1)
x = torch.randn(batch, 3, c["image_size"], c["image_size"])
labels = torch.full((batch,), 7)
ones = torch.ones(batch, L * T)
signs = torch.randint(0, 2, (probes, batch, L * T)).float() * 2 - 1
loss = lambda m: F.cross_entropy(forward(m, x), labels, reduction="sum")


def run_forward():
    with torch.no_grad():
        return forward(ones, x)


def run_gradient():
    m = ones.clone().requires_grad_()
    return torch.autograd.grad(loss(m), m)


def double_backward():
    """Forward and gradient once, then for each probe the gradient of <gradient, v>."""
    m = ones.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(m), m, create_graph=True)
    return [torch.autograd.grad(g, m, v, retain_graph=True)[0] for v in signs]


def jvp_of_grad():
    """Forward over reverse; probes share nothing, so two of them tell the time of one."""
    return [torch.func.jvp(torch.func.grad(loss), (ones,), (v,))[1] for v in signs[:2]]


works = {"forward": (run_forward, 0), "gradient": (run_gradient, 0), "double backward": (double_backward, probes), "jvp of grad": (jvp_of_grad, min(2, probes))}

print(json.dumps({"torch": torch.__version__, "probes": {name: n for name, (_, n) in works.items()}}), flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    works[line.strip()][0]()
    took = (time.perf_counter() - begin) * 1e3
    print(json.dumps({"ms": took, "peakMiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
