"""One of the two processes that `test_distributed.py` starts: takes the middle steps of each case, from what one
process left, and leaves what one process can go on from. `python rank_of_two.py FOLDER`, in a rank's environment.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from team_cases import BYTES, CASES, EVALUATED, MIDDLE, stepper_for, text

from engine.evaluation import evaluate
from engine.training.distributed import join
from engine.training.ranks import die_with_parent


def main(folder: Path) -> None:
    die_with_parent()
    team = join("cpu")
    found = {}
    for name, case in CASES.items():
        weights, state = torch.load(folder / f"{name}.before.pt")
        said: list[str] = []
        stepper = stepper_for(case, weights, state, team=team, report=said.append)
        results = [stepper.take(step) for step in MIDDLE]
        calls: list[tuple[int, int]] = []
        with stepper.whole_model() as gpt:
            after = {name: weight.clone() for name, weight in gpt.state_dict().items()}
            if name in EVALUATED:
                loss = evaluate(gpt, BYTES, text(), progress=lambda *call, to=calls: to.append(call), team=team).loss
        state = stepper.state()
        share = sum(getattr(weight, "to_local", lambda w=weight: w)().numel() for weight in stepper.gpt.parameters())
        if team.is_lead:
            torch.save((after, state), folder / f"{name}.after.pt")
        found[name] = {
            "results": [list(result) for result in results],
            "loss": loss if name in EVALUATED else None,
            "progress": calls,
            "share": share / sum(weight.numel() for weight in after.values()),
            "micro_batch": stepper.micro_batch,
            "said": said,
        }
    torch.distributed.destroy_process_group()
    (folder / f"found-{team.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # as the trainer ends: taking gloo's threads down can abort a process that has said all
