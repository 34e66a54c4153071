#!/usr/bin/env python3
"""Time a training step of the same OPT in Castor and in PyTorch, in turn, on the same device, and print ratios.

Both: fp32, random start, random tokens, dropout off, AdamW (PyTorch's fused one), clipping at 1.0, PyTorch's default
attention. The sides alternate --rounds times; medians over all timed steps.

    bench/compare_torch.py --castor ./castor --shapes 8x1024,32x1024 [--device SPEC] [--torch-device cuda]
"""
import argparse
import json
import statistics
import subprocess
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", default="./castor")
    p.add_argument("--config", default="350m", choices=["125m", "350m"])
    p.add_argument("--shapes", default="1x128", help="BATCHxTOKENS, comma-separated")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--device")
    p.add_argument("--torch-device", default="cpu")
    p.add_argument("--placement", default="resident")
    p.add_argument("--json", help="write all rows here")
    return p.parse_args()


def run_castor(args, batch, seq):
    command = [args.castor, "bench", "step", "--config", "opt-" + args.config, "--batch", str(batch), "--seq", str(seq), "--steps",
               str(args.steps), "--placement", args.placement, "--json", "--quiet"]
    if args.device:
        command += ["--device", args.device]
    r = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return r["ms"], r["device_peak_bytes"]


class Torch:
    def __init__(self, args):
        import torch
        from transformers import OPTConfig, OPTForCausalLM

        shape = dict(num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, ffn_dim=4096, word_embed_proj_dim=512,
                     do_layer_norm_before=False)
        if args.config == "125m":
            shape = dict(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, ffn_dim=3072)
        config = OPTConfig(vocab_size=50272, max_position_embeddings=2048, dropout=0.0, attention_dropout=0.0, **shape)
        torch.manual_seed(0)
        self.torch, self.device = torch, args.torch_device
        self.model = OPTForCausalLM(config).float().to(self.device).train()
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

    def sync(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def step(self, x):
        self.optim.zero_grad()
        self.model(input_ids=x, labels=x).loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optim.step()
        self.sync()

    def run(self, batch, seq, steps):
        times = []
        if self.device == "cuda":
            self.torch.cuda.reset_peak_memory_stats()
        for t in range(2 + steps):
            x = self.torch.randint(3, 50265, (batch, seq), device=self.device)
            self.sync()
            start = time.perf_counter()
            self.step(x)
            if t >= 2:
                times.append((time.perf_counter() - start) * 1e3)
        peak = self.torch.cuda.max_memory_allocated() if self.device == "cuda" else None
        self.optim.zero_grad()
        if self.device == "cuda":
            self.torch.cuda.empty_cache()
        return statistics.median(times), peak


def main():
    args = arguments()
    torch = Torch(args)
    rows = []
    for shape in args.shapes.split(","):
        batch, seq = (int(v) for v in shape.split("x"))
        ours, theirs, peaks = [], [], [0, 0]
        for _ in range(args.rounds):
            ms, peaks[0] = run_castor(args, batch, seq)
            ours.append(ms)
            ms, peaks[1] = torch.run(batch, seq, args.steps)
            theirs.append(ms)
        a, b = statistics.median(ours), statistics.median(theirs)
        row = dict(batch=batch, seq=seq, castor_ms=a, torch_ms=b, castor_tokens_per_s=batch * seq / a * 1e3,
                   torch_tokens_per_s=batch * seq / b * 1e3, ratio=b / a, castor_peak_bytes=peaks[0], torch_peak_bytes=peaks[1])
        rows.append(row)
        print("%3d x %4d  castor %9.1f ms %9.1f tok/s   torch %9.1f ms %9.1f tok/s   speed ratio %.3f   peak GiB %.2f / %s"
              % (batch, seq, a, row["castor_tokens_per_s"], b, row["torch_tokens_per_s"], b / a, peaks[0] / 2**30,
                 "%.2f" % (peaks[1] / 2**30) if peaks[1] else "-"), flush=True)
    if args.json:
        json.dump(rows, open(args.json, "w"), indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
