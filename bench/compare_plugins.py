#!/usr/bin/env python3
"""castor bench plugins beside the same in PyTorch, on the same device in one run: one table with ratios.

Both sides: random start, random tokens, dropout off, AdamW (1e-5, decay 0.01), clipping at 1.0. PyTorch's side, transformers' OPT with its
default attention and fused AdamW:
    plain           fp32, TF32 off                                          beside ddp
    autocast fp16   fp32 weights, GradScaler, as the original's ddp_fp16    beside ddp_fp16
    autocast bf16   for comparison
    FSDP2 offload   fp32, fully_shard a layer on one rank, CPUOffloadPolicy, AdamW on the host: beside low_level_zero and gemini

    bench/compare_plugins.py --castor ./castor --configs opt-125m,opt-350m --steps 8:5,32:2,128:1 --json F.json --markdown F.md

--steps says the batches, and how many steps of each are timed, on both sides, after two of warm-up (five where Castor migrates).
ratio: tokens/s over those of the PyTorch row beside it. What runs out of memory says how much it asked for beyond what was free.
"""
import argparse
import copy
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time

PEER = dict(ddp="plain", ddp_fp16="autocast fp16", low_level_zero="FSDP2 offload", gemini="FSDP2 offload")
WARM = 2


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", default="./castor")
    p.add_argument("--configs", default="opt-125m,opt-350m", help="opt-125m, opt-350m, or files as config.json, with commas")
    p.add_argument("--steps", default="8:5,32:2,128:1", help="BATCH:STEPS,...")
    p.add_argument("--seq", type=int, default=1024)
    p.add_argument("--recompute", default="auto")
    p.add_argument("--device-mem", help="Castor's budget")
    p.add_argument("--device", help="Castor's device")
    p.add_argument("--torch-device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument("--json", help="write everything here")
    p.add_argument("--markdown", help="write the table here, too")
    return p.parse_args()


def castor(args, config, batch, steps):
    command = [args.castor, "bench", "plugins", "--config", config, "--batch", str(batch), "--steps", str(steps), "--seq", str(args.seq), "--recompute",
               args.recompute, "--json", "--quiet"]
    for name in "device", "device_mem":
        if getattr(args, name):
            command += ["--" + name.replace("_", "-"), getattr(args, name)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit("%s\n%s" % (" ".join(command), done.stderr))
    return json.loads(done.stdout)


class Torch:
    """One model at a time; the one to start from stays on the host."""

    def __init__(self, args):
        import torch

        self.torch, self.args, self.gpu = torch, args, args.torch_device == "cuda"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.manual_seed(0)
        self.variants = ["plain", "autocast fp16", "autocast bf16"] + (["FSDP2 offload"] if self.gpu else [])

    def load(self, name):
        from transformers import OPTConfig, OPTForCausalLM

        shapes = {"opt-125m": dict(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, ffn_dim=3072),
                  "opt-350m": dict(num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, ffn_dim=4096, word_embed_proj_dim=512,
                                   do_layer_norm_before=False)}
        config = OPTConfig(vocab_size=50272, max_position_embeddings=2048, **shapes[name]) if name in shapes else OPTConfig.from_json_file(name)
        config.dropout = config.attention_dropout = 0.0
        self.vocabulary = config.vocab_size
        self.base = OPTForCausalLM(config).float().train()

    def shard(self, model):
        import torch.distributed as dist
        from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

        if not dist.is_initialized():
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29512", RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
            self.torch.cuda.set_device(0)
            dist.init_process_group("cpu:gloo,cuda:nccl")
        for layer in model.model.decoder.layers:
            fully_shard(layer, offload_policy=CPUOffloadPolicy(pin_memory=True))
        fully_shard(model, offload_policy=CPUOffloadPolicy(pin_memory=True))
        return model

    def sync(self):
        if self.gpu:
            self.torch.cuda.synchronize()

    def steps(self, variant, batch, steps):
        torch, device = self.torch, self.args.torch_device
        model = copy.deepcopy(self.base)
        model = self.shard(model) if variant == "FSDP2 offload" else model.to(device)
        optim = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
        kind = {"autocast fp16": torch.float16, "autocast bf16": torch.bfloat16}.get(variant)
        scaler = torch.amp.GradScaler(device, enabled=kind == torch.float16)
        times = []
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(WARM + steps):
            x = torch.randint(3, self.vocabulary, (batch, self.args.seq), device=device)
            self.sync()
            start = time.perf_counter()
            optim.zero_grad()
            with torch.autocast(device, dtype=kind, enabled=kind is not None):
                loss = model(input_ids=x, labels=x).loss
            scaler.scale(loss).backward()
            scaler.unscale_(optim)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optim)
            scaler.update()
            self.sync()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    def run(self, variant, batch, steps):
        torch, row = self.torch, dict(side="PyTorch", row=variant, batch=batch)
        try:
            times = self.steps(variant, batch, steps)
            ms = statistics.median(times[WARM:])
            row.update(ms=ms, first_ms=times[0], tokens_per_s=batch * self.args.seq / ms * 1e3, samples_per_s=batch / ms * 1e3)
            if self.gpu:
                row.update(device_peak_bytes=torch.cuda.max_memory_allocated())
        except torch.OutOfMemoryError as e:
            found = re.search(r"Tried to allocate ([0-9.]+ [KMGT]iB).*?of which ([0-9.]+ [KMGT]iB) is free", str(e), re.S)
            row["missing"] = "out of memory: asked for %s more, %s were free" % found.groups() if found else "out of memory"
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()
        return row


def ours(result):
    for r in result["rows"]:
        row = dict(r, side="Castor", row=r["plugin"])
        del row["plugin"]
        row.pop("losses", None)
        if "need_bytes" in row:
            row["missing"] = "doesn't fit: needs %.2f GiB more" % (row["lacking_bytes"] / 2**30)
        yield row


def compare(args, torch, config, batch, steps):
    result = castor(args, config, batch, steps)
    rows = list(ours(result))
    theirs = {v: torch.run(v, batch, steps) for v in torch.variants}
    for row in rows:
        peer = theirs.get(PEER[row["row"]], {})
        if "tokens_per_s" in row and "tokens_per_s" in peer:
            row["ratio"] = row["tokens_per_s"] / peer["tokens_per_s"]
    rows += theirs.values()
    for row in rows:
        row.update(config=config, steps=steps)
    del result["rows"]
    return result, rows


def line(row):
    head = "| %s | %d | %s %s | " % (row["config"].split("/")[-1], row["batch"], row["side"], row["row"])
    if "missing" in row:
        return head + row["missing"] + " | | | | | | |"
    peak = "%.2f" % (row["device_peak_bytes"] / 2**30) if "device_peak_bytes" in row else ""
    moved = "%.2f" % ((row["up_bytes_step"] + row["down_bytes_step"]) / 2**30) if "up_bytes_step" in row else ""
    overlap = "%.0f" % row["overlap_percent"] if "overlap_percent" in row else ""
    ratio = "%.3f" % row["ratio"] if "ratio" in row else ""
    return head + "%.2f | %.1f | %.1f | %s | %s | %s | %s |" % (row["samples_per_s"], row["tokens_per_s"], row["ms"], peak, moved, overlap, ratio)


def main():
    args = arguments()
    plan = [[int(v) for v in part.split(":")] for part in args.steps.split(",")]
    torch, rows, runs = Torch(args), [], []
    lines = ["| model | batch | row | samples/s | tokens/s | ms a step | peak GiB | moved GiB | hidden % | ratio |", "|---" * 10 + "|"]
    print("\n".join(lines), flush=True)
    for config in args.configs.split(","):
        torch.load(config)
        for batch, steps in plan:
            result, more = compare(args, torch, config, batch, steps)
            runs.append(result)
            rows += more
            lines += [line(r) for r in more]
            print("\n".join(lines[-len(more):]), flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(dict(torch=torch.torch.__version__, command=" ".join(sys.argv), castor=runs, rows=rows), f, indent=1)
    if args.markdown:
        with open(args.markdown, "w") as f:
            f.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
