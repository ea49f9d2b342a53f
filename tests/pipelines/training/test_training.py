"""Training end to end on a tiny scale: batches, losses that fall, sequences, fusion and thresholds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from models.calibration import Calibrator
from models.encoder import EncoderDims, FaceEncoder
from models.temporal import TemporalHead
from pipelines.errors import PipelineError, SourceNotFound, UnsupportedMedia
from pipelines.training import encoder_training
from pipelines.training.calibration_fit import TrackEvidence, fit_fusion, one_vote, set_farthest, set_thresholds
from pipelines.training.device_fakes import DeviceFakes
from pipelines.training.encoder_data import FacePairs, PairBatch, sampling_weights
from pipelines.training.encoder_training import EncoderProgress, EncoderRecipe, _batches, _inconsistency, train_encoder
from pipelines.training.evidence import of_sequences
from pipelines.training.masks import template_points
from pipelines.training.pair_recipe import LOCATED
from pipelines.training.portraits import load_portraits
from pipelines.training.sequences import Sequence, altered, draw_pairs, embedding_sizes, fit_embedding, retime, see
from pipelines.training.stages import load_encoder, load_temporal
from pipelines.training.temporal_training import (
    TemporalProgress,
    TemporalRecipe,
    _start_at_unit_motion,
    at_rate,
    collate,
    train_temporal,
)
from tests.pipelines.training.portrait import portrait
from tests.support import require


def test_a_batch_holds_two_fakes_of_each_face() -> None:
    data = FacePairs([portrait("a"), portrait("b")], groups=3, seed=0)
    batch = data.draw(np.random.default_rng(0))
    assert batch.real.shape == batch.fake.shape == (6, 3, 160, 160)
    assert batch.blend_map.shape == (6, 2, 20, 20)
    assert batch.blend_map[:, 0].amax((1, 2)).min() > 0.1, "every fake has a mask"
    changed = (batch.real.float() - batch.fake.float()).abs().mean((1, 2, 3))
    assert changed.min() > 0


def test_points_follow_their_crop_through_jitter_and_mirror() -> None:
    measured = portrait("a")
    measured.dense[:] = template_points()
    batch = FacePairs([measured], groups=8, seed=0).draw(np.random.default_rng(0))
    expected = torch.from_numpy((template_points()[LOCATED] - 16 + 0.5) / 160)
    assert batch.points.shape == (16, 52, 2)
    assert (batch.points - expected).abs().max() < 0.12, "a left eye stays a left eye in a mirror"
    assert (batch.points - expected).abs().max() > 0.005


def test_footage_without_measured_points_trains_without_them() -> None:
    batch = FacePairs([portrait("a")], groups=1, seed=0, crop_px=112).draw(np.random.default_rng(0))
    assert batch.points.isnan().all()
    assert batch.real.shape == (2, 3, 112, 112)
    assert batch.blend_map.shape == (2, 2, 14, 14)


def test_places_from_two_sources_must_differ_and_from_one_agree() -> None:
    blended = torch.zeros(1, 8, 8)
    blended[:, 2:6, 2:6] = 1
    alike = torch.zeros(1, 2, 8, 8)
    alike[:, 0] = 1
    told = alike.clone()
    told[:, :, 2:6, 2:6] = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    assert float(_inconsistency(told, blended)) < 1e-6 < float(_inconsistency(alike, blended))
    assert float(_inconsistency(alike, torch.zeros(1, 8, 8))) < 1e-6


def test_how_many_processes_draw_and_where_they_begin_changes_no_batch() -> None:
    people = [portrait("a"), portrait("b")]

    def drawn(workers: int, first: int, count: int) -> list[PairBatch]:
        data = FacePairs(people, groups=1, seed=3, crop_px=48, first=first)
        return list(itertools.islice(DataLoader(data, batch_size=None, num_workers=workers), count))

    alone, shared, later = drawn(0, 0, 5), drawn(2, 0, 5), drawn(0, 2, 3)
    assert all(torch.equal(one.fake, other.fake) for one, other in zip(alone, shared, strict=True))
    assert all(torch.equal(one.fake, other.fake) for one, other in zip(alone[2:], later, strict=True))
    assert not torch.equal(alone[0].fake, alone[1].fake)


def test_a_gpu_learns_from_the_same_draws_as_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    people, recipe = [portrait("a"), portrait("b")], EncoderRecipe(groups=3, workers=0)
    monkeypatch.setattr(encoder_training, "DeviceFakes", lambda _, threads: DeviceFakes("cpu", threads=threads))  # there may be no GPU
    on_cpu, on_gpu = (list(itertools.islice(_batches(people, recipe, 112, device, first=5), 2)) for device in ("cpu", "cuda"))
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert torch.allclose(one.blend_map, other.blend_map, atol=5e-3)
        assert (one.real.float() - other.real.float()).abs().mean() < 1.5 and not torch.equal(one.real, other.real)


@pytest.mark.gpu
def test_the_eye_learns_on_a_gpu_what_the_gpu_made(tmp_path: Path) -> None:
    require("gpu")
    recipe, seen = EncoderRecipe(pairs=16, groups=2, workers=1, small_px=48, validation_batches=1, validate_every_s=0.0), []
    people = [portrait("a")], [portrait("b", split="holdout")]
    train_encoder(*people, tmp_path / "e.pt", recipe, device="cuda", on_progress=lambda one: seen.append(one.loss))
    assert len(seen) == 4 and np.isfinite(seen).all()


def test_a_training_that_was_cut_short_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    recipe = EncoderRecipe(pairs=8, groups=1, workers=0, validation_batches=1, validate_every_s=0.0, small_px=48)
    people = [portrait("a")], [portrait("b", split="holdout")]
    seen: list[EncoderProgress] = []

    def cut(progress: EncoderProgress) -> None:
        seen.append(progress)
        if progress.pairs == 6:
            raise KeyboardInterrupt

    whole = train_encoder(*people, tmp_path / "whole.pt", recipe)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(*people, tmp_path / "e.pt", recipe, on_progress=cut)
    after = train_encoder(*people, tmp_path / "e.pt", recipe, on_progress=seen.append)
    assert [one.pairs for one in seen] == [2, 4, 6, 8] and seen[3].minutes > seen[2].minutes
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), after.parameters(), strict=True))
    assert len(list((tmp_path / "snapshots").glob("e-*.pt"))) == len(seen), "snapshots carry the name of their weights"


def test_a_person_with_many_tracks_weighs_as_much_as_one_with_a_single_track() -> None:
    weights = sampling_weights([portrait("many"), portrait("many"), portrait("many"), portrait("one")])
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights.sum() == pytest.approx(1.0)


def test_training_the_eye_writes_weights_and_a_log(tmp_path: Path) -> None:
    seen: list[EncoderProgress] = []
    recipe = EncoderRecipe(pairs=8, groups=2, workers=0, small_share=0.0, validation_batches=1, validate_every_s=0.0)
    net = train_encoder([portrait("a")], [portrait("b", split="holdout")], tmp_path / "e.pt", recipe, on_progress=seen.append)
    assert seen and seen[-1].pairs >= 4
    assert all(np.isfinite(one.loss) for one in seen)
    restored = FaceEncoder(EncoderDims())
    restored.load_state_dict(torch.load(tmp_path / "e.pt", weights_only=True))
    crops = torch.zeros(1, 3, 160, 160)
    torch.testing.assert_close(restored.eval()(crops).logit, net(crops).logit)


def test_the_fitted_embedding_spreads_what_was_narrow_and_keeps_its_parts_apart() -> None:
    torch.manual_seed(0)
    encoder = FaceEncoder().eval()
    fit_embedding(encoder, [portrait("a"), portrait("b")], crops=200)
    sizes = embedding_sizes(128)
    assert sizes == (39, 39, 40, 10)
    rows = torch.split(encoder.project.weight, list(sizes))
    for own, row in enumerate(rows):
        for part, weight in enumerate(torch.split(row, list(encoder.parts.values()), 1)):
            assert bool(weight.any()) == (part == own)
    seen = see(encoder, np.random.default_rng(0).integers(0, 256, (8, 160, 160, 3), dtype=np.uint8))
    assert np.isfinite(seen.embedding).all()


def test_sequences_come_in_pairs_with_true_times() -> None:
    encoder = FaceEncoder().eval()
    sequences = draw_pairs(encoder, [portrait("a"), portrait("b")], pairs=2, seed=3)
    assert [sequence.label for sequence in sequences] == [0, 1, 0, 1]
    for real, fake in zip(sequences[::2], sequences[1::2], strict=True):
        np.testing.assert_array_equal(real.t, fake.t)
        assert real.identity == fake.identity
        assert real.frame_label.sum() == 0 < fake.frame_label.sum()


def test_the_number_of_processes_changes_nothing() -> None:
    encoder, people = FaceEncoder().eval(), [portrait("a"), portrait("b")]
    alone, shared = (draw_pairs(encoder, people, pairs=3, seed=3, workers=workers) for workers in (0, 2))
    for one, other in zip(alone, shared, strict=True):
        assert one.kind == other.kind
        np.testing.assert_array_equal(one.embedding, other.embedding)


def test_stills_alone_make_no_sequences() -> None:
    with pytest.raises(PipelineError, match="a face track of at least 16 frames"):
        draw_pairs(FaceEncoder().eval(), [portrait("a", frames=3)], pairs=1, seed=0)


def test_speed_and_stalls_hit_both_of_a_pair_alike() -> None:
    rng = np.random.default_rng(0)
    real, fake = _walks(1, speed=1, label=0, rng=rng)[0], _walks(1, speed=1, label=1, rng=rng)[0]
    fake = replace(fake, t=real.t)
    speeds, stalls = set(), 0
    for seed in range(60):
        a, b = altered((real, fake), np.random.default_rng(seed))
        np.testing.assert_array_equal(a.t, b.t)
        speeds.add(round(float((a.t[-1] - a.t[0]) / (real.t[-1] - real.t[0])), 3))
        shown_again = (np.diff(a.embedding, axis=0) == 0).all(1)
        np.testing.assert_array_equal(shown_again, (np.diff(b.embedding, axis=0) == 0).all(1))
        stalls += bool(shown_again.any())
    assert min(speeds) < 0.7 and max(speeds) > 1.4 and 0 < stalls < 30


def test_retiming_drops_observations_and_never_moves_one() -> None:
    t = np.cumsum(np.full(60, 1 / 30))
    for seed in range(50):
        kept = retime(t, np.random.default_rng(seed))
        assert len(kept) >= 4
        assert (np.diff(kept) > 0).all()


def test_a_sampler_at_a_rate_keeps_at_most_that_many() -> None:
    t = np.arange(90) / 30
    assert len(at_rate(t, 10)) == pytest.approx(30, abs=1)
    assert len(at_rate(t, None)) == 90


@pytest.mark.parametrize("fps", [24, 25, 30_000 / 1001, 30, 50, 60_000 / 1001, 60])
@pytest.mark.parametrize("hz", [4, 5, 10, 12, 15, 24, 25, 30])
def test_times_in_milliseconds_are_kept_like_exact_ones(fps: float, hz: int) -> None:
    """Whichever frame is the first: t - t[0] is of two rounded stamps."""
    for first in range(4):
        exact = np.arange(first, first + 20 * round(fps)) / fps
        kept = at_rate(np.round(exact, 3), hz)
        assert (np.diff(kept) > 0).all()
        assert len(kept) == pytest.approx(20 * min(hz, round(fps)), abs=1)
        if fps == round(fps):
            assert kept.tolist() == at_rate(exact, hz).tolist()


@pytest.mark.parametrize("fps", [24, 25, 30_000 / 1001, 30, 50, 60_000 / 1001, 60])
def test_at_the_default_rate_an_exact_clock_decides_alone(fps: float) -> None:
    """What is forgiven to rounded stamps changes nothing for exact ones: as many frames as the longest window has."""
    t = np.arange(216) / fps
    slot = np.floor(t * 12 + 1e-6)
    assert at_rate(t, 12).tolist() == np.flatnonzero(np.diff(slot, prepend=-1) > 0).tolist()


def _walks(n: int, *, speed: float, label: int, rng: np.random.Generator) -> list[Sequence]:
    """Embeddings that wander; the fake ones wander faster. Only the speed in seconds differs."""
    found = []
    for i in range(n):
        t = np.cumsum(rng.uniform(0.03, 0.1, 40))
        steps = rng.normal(size=(40, 128)) * np.sqrt(np.diff(t, prepend=t[0] - 0.05))[:, None] * speed
        x = rng.normal(size=128) + np.cumsum(steps, axis=0)
        found.append(
            Sequence(f"person {i}", label, "walk", t, x.astype(np.float32), np.zeros(40, np.float32), np.full(40, label, np.float32))
        )
    return found


def test_the_memory_learns_to_tell_speeds_apart() -> None:
    rng = np.random.default_rng(0)
    train = [
        one for pair in zip(_walks(40, speed=0.3, label=0, rng=rng), _walks(40, speed=0.9, label=1, rng=rng), strict=True) for one in pair
    ]
    held = [
        one for pair in zip(_walks(20, speed=0.3, label=0, rng=rng), _walks(20, speed=0.9, label=1, rng=rng), strict=True) for one in pair
    ]
    progress: list[TemporalProgress] = []
    recipe = TemporalRecipe(steps=60, batch=32, validate_every=20, seed=5, seeds=2)
    train_temporal(train, held, recipe, on_progress=progress.append)
    assert max(one.holdout_auc for one in progress) > 0.9
    assert [(one.seed, one.step) for one in progress] == [(seed, step) for seed in (5, 6) for step in (20, 40, 60)]
    with pytest.raises(ValueError, match="got 0"):
        train_temporal(train, held, TemporalRecipe(seeds=0))


def test_the_best_of_the_seeds_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: dict[int, TemporalHead] = {}

    def trained(head: TemporalHead, _train: object, _holdout: object, recipe: TemporalRecipe, **_: object) -> tuple[TemporalHead, float]:
        heads[recipe.seed] = head
        return head, {3: 0.6, 4: 0.8, 5: 0.7}[recipe.seed]

    monkeypatch.setattr("pipelines.training.temporal_training.train_head", trained)
    walks = _walks(2, speed=0.3, label=0, rng=np.random.default_rng(0))
    assert train_temporal(walks, walks, TemporalRecipe(seed=3, seeds=3)) is heads[4]


def test_a_run_of_an_earlier_version_is_refused_by_name(tmp_path: Path) -> None:
    state = FaceEncoder().state_dict()
    state["project.weight"] = torch.zeros(128, 424)
    torch.save(state, tmp_path / "encoder.pt")
    with pytest.raises(UnsupportedMedia, match="another version") as refused:
        load_encoder(tmp_path)
    assert "project.weight" in refused.value.got
    with pytest.raises(SourceNotFound, match="is missing"):
        load_temporal(tmp_path)


def test_padding_is_masked() -> None:
    rng = np.random.default_rng(0)
    short, long = _walks(2, speed=1, label=0, rng=rng)
    batch = collate([(short, np.arange(5)), (long, np.arange(30))])
    assert batch.mask.sum(0).tolist() == [5, 30]
    assert torch.isinf(batch.dt[0]).all()


def test_a_head_starts_where_a_real_face_varies_by_one() -> None:
    rng = np.random.default_rng(0)
    train = _walks(10, speed=0.3, label=0, rng=rng)
    head = TemporalHead()
    _start_at_unit_motion(head, train)
    moved = torch.cat([head.embed(torch.from_numpy(one.embedding - one.embedding.mean(0))) for one in train])
    spread = (moved - head.embed(torch.zeros(1, 128))).square().mean(0).sqrt()
    torch.testing.assert_close(spread, torch.ones(40), atol=0.02, rtol=0)


def _tracks(n: int, shift: float, label: int, rng: np.random.Generator) -> list[TrackEvidence]:
    return [
        TrackEvidence(
            f"p{label}{i}", label, np.arange(20) / 10, rng.normal(shift, 1, 20) + rng.normal(0, 0.5), rng.normal(0, 1, 20), np.ones(20)
        )
        for i in range(n)
    ]


def test_fusion_trusts_the_stage_that_knows_and_ignores_the_other() -> None:
    rng = np.random.default_rng(0)
    calibrator = fit_fusion(_tracks(80, -1, 0, rng) + _tracks(80, 1, 1, rng))
    artefact, temporal, _ = calibrator.weight.tolist()
    assert artefact > 1 > temporal >= 0
    assert torch.linalg.eigvalsh(calibrator.covariance).min() > 0


def test_thresholds_err_on_the_side_of_the_accused() -> None:
    calibrator = Calibrator()
    rng = np.random.default_rng(0)
    reals = [(f"p{i}", float(m), float(m) + 0.5) for i, m in enumerate(rng.normal(-1, 0.5, 60))]
    set_thresholds(calibrator, reals, target_fpr=0.01)
    assert calibrator.shipped.track >= max(mean for _, mean, _ in reals)
    assert calibrator.shipped.stretch >= max(peak for _, _, peak in reals)
    assert calibrator.shipped.doubt < calibrator.shipped.track


def test_no_familiar_face_is_out_of_distribution() -> None:
    calibrator = Calibrator()
    assert calibrator.familiar(1e9), "weights without a bound know every face"
    rng = np.random.default_rng(0)
    set_farthest(calibrator, [(f"p{i}", rng.normal(1, 0.05, 24)) for i in range(60)])
    assert calibrator.familiar(1.1) and not calibrator.familiar(1.6)


def test_a_person_with_ten_clips_has_one_vote() -> None:
    np.testing.assert_allclose(one_vote(["a"] * 10 + ["b"]), [0.1] * 10 + [1.0])


def test_evidence_goes_through_the_flow_that_serves() -> None:
    rng = np.random.default_rng(0)
    sequence = _walks(1, speed=1, label=1, rng=rng)[0]
    head, calibrator = TemporalHead().eval(), Calibrator()
    track = of_sequences(head, calibrator, [sequence], hz=None)[0]
    x, dt = torch.from_numpy(sequence.embedding).unsqueeze(1), np.diff(sequence.t, prepend=-np.inf)
    state = head.init(1)
    for i in range(len(x)):
        out, state = head.step(x[i], state, torch.tensor([[dt[i]]], dtype=torch.float32))
        assert float(out.logit.detach()) == track.temporal[i]


def test_a_store_of_another_crop_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tracks" / "x"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text('{"crop_version": 0}')
    with pytest.raises(PipelineError, match="another crop function"):
        load_portraits(tmp_path)
