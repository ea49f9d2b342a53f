"""Training end to end on a tiny scale: batches, losses that fall, sequences, fusion and thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibration import Calibrator
from models.encoder import EncoderDims, FaceEncoder
from models.temporal import TemporalHead
from pipelines.errors import PipelineError
from pipelines.training.calibration_fit import TrackEvidence, fit_fusion, one_vote, set_thresholds
from pipelines.training.encoder_data import FacePairs, sampling_weights
from pipelines.training.encoder_training import EncoderProgress, EncoderRecipe, train_encoder
from pipelines.training.evidence import of_sequences
from pipelines.training.portraits import load_portraits
from pipelines.training.sequences import Sequence, draw_pairs, fit_embedding, retime
from pipelines.training.temporal_training import TemporalProgress, TemporalRecipe, at_rate, collate, train_temporal
from tests.pipelines.training.portrait import portrait


def test_a_batch_holds_two_fakes_of_each_face() -> None:
    data = FacePairs([portrait("a"), portrait("b")], groups=3, seed=0)
    batch = data.draw(np.random.default_rng(0))
    assert batch.real.shape == batch.fake.shape == (6, 3, 160, 160)
    assert batch.blend_map.shape == (6, 2, 20, 20)
    assert batch.blend_map[:, 0].amax((1, 2)).min() > 0.1, "every fake has a mask"
    changed = (batch.real.float() - batch.fake.float()).abs().mean((1, 2, 3))
    assert changed.min() > 0


def test_a_person_with_many_tracks_weighs_as_much_as_one_with_a_single_track() -> None:
    weights = sampling_weights([portrait("many"), portrait("many"), portrait("many"), portrait("one")])
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights.sum() == pytest.approx(1.0)


def test_training_the_eye_writes_weights_and_a_log(tmp_path: Path) -> None:
    seen: list[EncoderProgress] = []
    recipe = EncoderRecipe(minutes=0.02, groups=2, workers=0, validation_batches=1, validate_every_s=0.0)
    net = train_encoder([portrait("a")], [portrait("b", split="holdout")], tmp_path / "e.pt", recipe, on_progress=seen.append)
    assert seen and seen[-1].pairs >= 4
    assert all(np.isfinite(one.loss) for one in seen)
    restored = FaceEncoder(EncoderDims())
    restored.load_state_dict(torch.load(tmp_path / "e.pt", weights_only=True))
    crops = torch.zeros(1, 3, 160, 160)
    torch.testing.assert_close(restored.eval()(crops).logit, net(crops).logit)


def test_the_fitted_embedding_spreads_what_was_narrow() -> None:
    torch.manual_seed(0)
    encoder = FaceEncoder().eval()
    before = encoder.project.weight.clone()
    fit_embedding(encoder, [portrait("a"), portrait("b")], crops=40)
    assert not torch.equal(before, encoder.project.weight)
    assert torch.isfinite(encoder.project.weight).all()


def test_sequences_come_in_pairs_with_true_times() -> None:
    encoder = FaceEncoder().eval()
    sequences = draw_pairs(encoder, [portrait("a"), portrait("b")], pairs=2, seed=3)
    assert [sequence.label for sequence in sequences] == [0, 1, 0, 1]
    for real, fake in zip(sequences[::2], sequences[1::2], strict=True):
        np.testing.assert_array_equal(real.t, fake.t)
        assert real.identity == fake.identity
        assert real.frame_label.sum() == 0 < fake.frame_label.sum()


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


def _walks(n: int, *, speed: float, label: int, rng: np.random.Generator) -> list[Sequence]:
    """Embeddings that wander; the fake ones wander faster. Only the speed in seconds differs."""
    found = []
    for i in range(n):
        t = np.cumsum(rng.uniform(0.03, 0.1, 40))
        steps = rng.normal(size=(40, 128)) * np.sqrt(np.diff(t, prepend=t[0] - 0.05))[:, None] * speed
        x = rng.normal(size=128) + np.cumsum(steps, axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
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
    train_temporal(train, held, TemporalRecipe(steps=60, batch=32, validate_every=20), on_progress=progress.append)
    assert max(one.holdout_auc for one in progress) > 0.9


def test_padding_is_masked() -> None:
    rng = np.random.default_rng(0)
    short, long = _walks(2, speed=1, label=0, rng=rng)
    batch = collate([(short, np.arange(5)), (long, np.arange(30))])
    assert batch.mask.sum(0).tolist() == [5, 30]
    assert torch.isinf(batch.dt[0]).all()


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
    assert calibrator.track_logit >= max(mean for _, mean, _ in reals)
    assert calibrator.stretch_logit >= max(peak for _, _, peak in reals)
    assert calibrator.doubt_logit < calibrator.track_logit


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
