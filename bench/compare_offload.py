#!/usr/bin/env python3
"""What it costs to train with less device memory: Castor under budgets, PyTorch FSDP2 with CPU offload on one GPU.

OPT-350M, fp32 (TF32 off), random tokens, dropout off, AdamW, clipping at 1.0 (--clip 0: none, on
both sides). Each side is compared with its own step with
everything on the device; medians, in turns. FSDP2 shards over one rank: fully_shard per layer and for the model, with
CPUOffloadPolicy(pin_memory=True), AdamW on the host (fused).

    bench/compare_offload.py --castor ./castor --batch 8 --seq 1024 --budgets 100,75,50,35,20 [--json F]

Budgets are percent of Castor's resident peak, or sizes as 13.85GiB.

    bench/compare_offload.py --castor ./castor --pairs 10

asks whether `--placement auto` costs anything where all fits: that many runs of auto and resident in turn, nothing else.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", default="./castor")
    p.add_argument("--config", default="opt-350m")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--seq", type=int, default=1024)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--budgets", default="75,50,35,20")
    p.add_argument("--pairs", type=int, default=0, help="auto against resident where all fits, so many times in turn")
    p.add_argument("--clip", default="1.0", help="largest gradient norm, 0: no clipping; on both sides")
    p.add_argument("--device")
    p.add_argument("--no-torch", action="store_true", help="Castor only")
    p.add_argument("--json")
    return p.parse_args()


def castor(args, more):
    command = [args.castor, "bench", "step", "--config", args.config, "--batch", str(args.batch), "--seq", str(args.seq), "--steps",
               str(args.steps), "--clip", args.clip, "--json", "--quiet"] + more
    if args.device:
        command += ["--device", args.device]
    r = subprocess.run(command, capture_output=True, text=True)
    if r.returncode:
        return {"error": r.stderr.strip().splitlines()[-1]}
    return json.loads(r.stdout)


def torch_side(args, offload):
    """One process: prints median ms and peak bytes as JSON."""
    code = f"""
import json, os, statistics, time, torch
from transformers import OPTConfig, OPTForCausalLM
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
offload = {offload}
torch.manual_seed(0)
c = OPTConfig(vocab_size=50272, max_position_embeddings=2048, dropout=0.0, attention_dropout=0.0, num_hidden_layers=24, hidden_size=1024,
              num_attention_heads=16, ffn_dim=4096, word_embed_proj_dim=512, do_layer_norm_before=False)
model = OPTForCausalLM(c).float().train()
if offload:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard, CPUOffloadPolicy
    torch.cuda.set_device(0)
    dist.init_process_group("cpu:gloo,cuda:nccl")
    for layer in model.model.decoder.layers:
        fully_shard(layer, offload_policy=CPUOffloadPolicy(pin_memory=True))
    fully_shard(model, offload_policy=CPUOffloadPolicy(pin_memory=True))
else:
    model = model.cuda()
optim = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
times = []
for t in range(3 + {args.steps}):
    x = torch.randint(3, 50265, ({args.batch}, {args.seq}), device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    optim.zero_grad()
    model(input_ids=x, labels=x).loss.backward()
    if {float(args.clip)} > 0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), {float(args.clip)})
    optim.step()
    torch.cuda.synchronize()
    if t >= 3:
        times.append((time.perf_counter() - start) * 1e3)
    elif t == 2:
        torch.cuda.reset_peak_memory_stats()
print(json.dumps(dict(ms=statistics.median(times), peak=torch.cuda.max_memory_allocated())))
"""
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if r.returncode:
        return {"error": r.stderr.strip().splitlines()[-1] if r.stderr.strip() else "exit %d" % r.returncode}
    return json.loads(r.stdout.strip().splitlines()[-1])


def pairs(args):
    ms = {"auto": [], "resident": []}
    for i in range(args.pairs):
        for placement in ("auto", "resident") if i % 2 else ("resident", "auto"):
            r = castor(args, ["--placement", placement])
            if "error" in r:
                sys.exit(r["error"])
            ms[placement].append(r["ms"])
    for placement, t in ms.items():
        print("%-9s median %.2f ms, %.2f to %.2f" % (placement, statistics.median(t), min(t), max(t)))
    difference = [100 * (a / b - 1) for a, b in zip(ms["auto"], ms["resident"])]
    print("auto over resident: median %+.2f %%, %+.2f to %+.2f %%" % (statistics.median(difference), min(difference), max(difference)))


def main():
    args = arguments()
    if args.pairs:
        return pairs(args)
    cases = {"resident": ["--placement", "resident"]}
    first = castor(args, cases["resident"])
    if "error" in first:
        sys.exit(first["error"])
    for b in args.budgets.split(","):
        size = b if b[-1] == "B" else str(int(first["device_peak_bytes"] * float(b) / 100))
        cases[b if b[-1] == "B" else b + " %"] = ["--placement", "auto", "--device-mem", size]
    got, torch_got = {k: [] for k in cases}, {"PyTorch resident": [], "FSDP2 CPU offload": []}
    for _ in range(args.rounds):
        for k, more in cases.items():
            got[k].append(castor(args, more))
        if not args.no_torch:
            torch_got["PyTorch resident"].append(torch_side(args, False))
            torch_got["FSDP2 CPU offload"].append(torch_side(args, True))
    rows, tokens = [], args.batch * args.seq
    base = statistics.median(r["ms"] for r in got["resident"])
    for k, runs in got.items():
        bad = [r["error"] for r in runs if "error" in r]
        if bad:
            print("castor %-18s %s" % (k, bad[0]))
            rows.append(dict(case="castor " + k, error=bad[0]))
            continue
        ms = statistics.median(r["ms"] for r in runs)
        r = runs[-1]
        row = dict(case="castor " + k, ms=ms, ratio=ms / base, peak_bytes=r["device_peak_bytes"],
                   moved_bytes=r.get("h2d_bytes_step", 0) + r.get("d2h_bytes_step", 0), predicted_ms=r.get("predicted_ms"), tokens_per_s=tokens / ms * 1e3)
        rows.append(row)
        print("castor %-18s %9.1f ms  x %.3f of resident  %8.1f tok/s  peak %6.2f GiB  moved %6.2f GiB a step  predicted %s ms"
              % (k, ms, ms / base, row["tokens_per_s"], row["peak_bytes"] / 2**30, row["moved_bytes"] / 2**30,
                 "%.1f" % row["predicted_ms"] if row["predicted_ms"] else "-"), flush=True)
    base = None
    for k, runs in torch_got.items():
        if not runs:
            continue
        bad = [r["error"] for r in runs if "error" in r]
        if bad:
            print("%-25s %s" % (k, bad[0]))
            continue
        ms = statistics.median(r["ms"] for r in runs)
        base = base or ms
        rows.append(dict(case=k, ms=ms, ratio=ms / base, peak_bytes=runs[-1]["peak"], tokens_per_s=tokens / ms * 1e3))
        print("%-25s %9.1f ms  x %.3f of resident  %8.1f tok/s  peak %6.2f GiB" % (k, ms, ms / base, tokens / ms * 1e3, runs[-1]["peak"] / 2**30))
    if args.json:
        json.dump(rows, open(args.json, "w"), indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
