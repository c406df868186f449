"""The whole training: render, learn until the time is up, validate, write."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from yolotrt_lab.detector.scene import SyntheticScene

from .learner import Learner
from .loss import GAINS
from .render import Renderer
from .report import write_model, write_report
from .schedule import Progress, learning_rate
from .settings import Settings
from .store import Store, collect, jobs
from .validate import average_precision, detect, truth_of

_PROCESSES = 24


class Training:
    """One training into a folder. `facts` is its report so far."""

    def __init__(self, settings: Settings, folder: Path, device: torch.device, processes: int = 0) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        self.processes = processes or min(os.cpu_count() or 1, _PROCESSES)
        self.facts: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "finished": False}
        self.losses: list[dict[str, float]] = []
        self.started = monotonic()
        torch.backends.cudnn.benchmark = True
        self.learner = Learner(settings, len(SyntheticScene.names), device)

    def run(self) -> dict[str, Any]:
        """Train and write; the facts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        training, held_out = self.prepare()
        self.learn(training)
        self._write()
        self.validate(held_out)
        self.facts |= {"finished": True, "seconds": round(monotonic() - self.started, 1)}
        self._write()
        return self.facts

    def prepare(self) -> tuple[Store, Store]:
        """Frames to train with and held-out ones; other processes render while this one compiles."""
        wanted = jobs(self.settings)
        with Renderer(wanted, self.processes, 60 * self.settings.render_minutes) as renderer:
            if self.settings.compile:
                self.learner.compile()
            training, held_out = collect(renderer, self.settings, self.device)
        seconds = round(monotonic() - self.started, 1)
        self.facts |= {"prepare_seconds": seconds, "render_processes": self.processes}
        self.facts |= {"training_frames": len(training), "held_out_frames": len(held_out)}
        self.facts |= {"compile_seconds": self.learner.compiled, "compile_note": self.learner.note}
        self._say(
            f"{len(training)} + {len(held_out)} frames ready, compiled {self.learner.compiled}", self.learner.note
        )
        return training, held_out

    def learn(self, store: Store) -> None:
        """Steps until the time is up, with a line and a model now and then."""
        settings, progress = self.settings, Progress(self.settings, self.started)
        total, counted, shown, saved = torch.zeros(len(GAINS), device=self.device), 0, 0.0, 0.0
        while (done := progress.done) < 1:
            stacked = settings.stacked if done < 1 - settings.plain else 0.0
            total += self.learner.step(store, learning_rate(done, settings), stacked)
            progress.steps += 1
            counted += 1
            if progress.seconds - shown >= settings.report_seconds or counted == 1 == progress.steps:
                self._note_losses(total / counted, progress)
                total, counted, shown = torch.zeros_like(total), 0, progress.seconds
            if progress.seconds - saved >= settings.checkpoint_seconds:
                self._write()
                saved = progress.seconds
        if counted:
            self._note_losses(total / counted, progress)

    def validate(self, store: Store) -> None:
        """Average precision on frames of other scenes."""
        side, names = self.settings.input_size, SyntheticScene.names
        found = detect(self.learner.average.detector, store, side)
        table = average_precision(found, truth_of(store, side), len(names))
        by_class = dict(zip(names, np.nanmean(table, axis=1).round(4).tolist(), strict=True))
        self.facts["validation"] = {
            "frames": len(store),
            "map50": round(float(np.nanmean(table[:, 0])), 4),
            "map50_95": round(float(np.nanmean(table)), 4),
            "map50_95_by_class": {name: None if value != value else value for name, value in by_class.items()},
        }
        self._say(json.dumps(self.facts["validation"]))

    def _note_losses(self, parts: torch.Tensor, progress: Progress) -> None:
        losses = {name: round(value, 4) for name, value in zip(GAINS, parts.tolist(), strict=True)}
        rate = progress.steps * self.settings.batch / progress.seconds
        self.losses.append({"seconds": round(progress.seconds, 1), "step": progress.steps, **losses})
        self.facts |= {"steps": progress.steps, "images_per_second": round(rate, 1), "losses": self.losses}
        if self.device.type == "cuda":
            self.facts["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        self._say(
            f"step {progress.steps}, {rate:.0f} images/s,", *(f"{name} {value}" for name, value in losses.items())
        )

    def _write(self) -> None:
        write_model(self.learner.average.detector, self.folder, self.settings.input_size)
        write_report(self.folder, self.settings, self.facts)

    def _say(self, *words: str) -> None:
        print(f"{monotonic() - self.started:6.1f} s ", *words, flush=True)
