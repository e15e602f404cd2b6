from __future__ import annotations

import io

import numpy as np
import pytest

from scmodelforge.eval.base import Record
from scmodelforge.eval.records import append_records, read_records
from scmodelforge.report.html import render_report
from scmodelforge.report.score_pictures import score_pictures
from scmodelforge.workflows.run_record import RunRecord

LABELS = ["B cell", "T cell", "NK"]


def embedding_records() -> list[Record]:
    return [
        Record("embedding_quality", "heldout", name, metric, value, n=50)
        for name, values in (("model", (0.5, -0.1)), ("pca", (0.9, None)))
        for metric, value in zip(("nmi_kmeans", "ari_kmeans"), values, strict=True)
    ]


def annotation_record(name: str = "model", *, is_nested: bool = True) -> Record:
    counts = [[5, 1, 0], [0, 7, 0], [1, 0, 2]]
    tables = {"confusion": {"labels": LABELS, "counts": counts}} if is_nested else {
        "labels": LABELS, "confusion": counts}  # fmt: skip
    return Record("cell_type_annotation", "heldout", name, "accuracy_knn15", 0.9, tables=tables)


def perturbation_records() -> list[Record]:
    found = []
    for name, value in (("model", 0.5), ("no_change", 0.2), ("perturbed_mean", 0.4)):
        table = {"perturbation": ["A", "B", "C"], "pearson_delta": [value, value + 0.1, None]}
        tables = {"per_perturbation": table}
        found.append(Record("perturbbench", "norman", name, "pearson_delta", value, tables=tables))
    return found


def names(records: list[Record]) -> list[str]:
    return [picture.name for picture in score_pictures(records)]


class TestPictures:
    def test_are_those_that_the_records_allow(self):
        assert names([]) == []
        assert names(embedding_records()) == ["scores_heldout"]
        assert names([annotation_record()]) == ["confusion_heldout_accuracy_knn15"]
        assert names(perturbation_records()) == ["perturbations_norman_perturbbench_pearson_delta"]

    @pytest.mark.parametrize("is_nested", [True, False])
    def test_of_confusion_take_labels_beside_or_inside_the_counts(self, is_nested):
        (picture,) = score_pictures([annotation_record(is_nested=is_nested)])
        assert "16 cells" in picture.caption

    def test_of_confusion_have_a_baseline_beside_the_model(self):
        (one,) = score_pictures([annotation_record()])
        (two,) = score_pictures([annotation_record(), annotation_record("pca"), annotation_record("hvg")])
        assert size(two.png)[0] > 1.4 * size(one.png)[0]

    def test_of_perturbations_are_against_the_best_baseline(self):
        (picture,) = score_pictures(perturbation_records())
        assert picture.title.startswith("pearson delta of 2 perturbations")  # of one there is no score
        assert "the best baseline (perturbed mean)" in picture.caption
        (alone,) = score_pictures(perturbation_records()[:1])
        assert "baseline" not in alone.caption

    def test_of_perturbations_are_there_for_each_benchmark_and_say_what_is_left_out(self):
        records = []
        for benchmark, num in (("perturbation_prediction", 6), ("vcc", 2), ("perturbbench", 4)):
            for metric in (f"metric{number}" for number in range(num)):
                table = {"perturbation": ["A", "B", "C"], metric: [0.1, 0.2, 0.3]}
                tables = {"per_perturbation": table}
                records.append(Record(benchmark, "norman", "model", metric, 0.2, tables=tables))
        pictures = score_pictures(records)
        titles = [picture.title for picture in pictures]
        found = [sum(name in title for title in titles) for name in ("perturbation prediction", "vcc", "perturbbench")]
        assert found == [4, 2, 4]
        assert len({picture.name for picture in pictures}) == 10
        for title in titles:
            assert ("2 more metrics left out" in title) == ("perturbation prediction" in title)

    def test_of_perturbations_say_how_many_of_them_are_left_out(self):
        (picture,) = score_pictures(perturbation_records())
        assert picture.title.startswith("pearson delta of 2 perturbations (1 of 3 left out)")

    def test_of_perturbations_are_against_a_baseline_of_all_of_them_where_there_is_one(self):
        records = perturbation_records()
        for record in records:
            record.n = 3
        few = perturbation_records()[0]
        few.representation, few.value, few.n = "additive", 0.9, 2
        (picture,) = score_pictures([*records, few])
        assert "(perturbed mean)" in picture.caption

    def test_of_confusion_are_there_for_each_data_set(self):
        records = []
        for dataset in ("heldout", "lung"):
            for number in range(5):
                record = annotation_record()
                record.dataset, record.metric = dataset, f"accuracy_{number}"
                records.append(record)
        titles = [picture.title for picture in score_pictures(records)]
        assert [sum(name in title for title in titles) for name in ("heldout", "lung")] == [4, 4]
        assert all("1 more metric left out" in title for title in titles)

    def test_of_embeddings_say_how_many_metrics_are_left_out(self):
        error = Record("embedding_quality", "heldout", "model", "error", 0.5, higher_is_better=False)
        (picture,) = score_pictures([*embedding_records(), error])
        assert picture.title == "Scores of embeddings, heldout cells (1 of 3 metrics left out)"

    def test_are_the_same_again(self):
        records = [*embedding_records(), annotation_record(), *perturbation_records()]
        first, again = ([picture.png for picture in score_pictures(records)] for _ in range(2))
        assert first == again

    def test_stand_on_the_page_with_words_for_those_who_cannot_see_them(self, run_folder):
        kept = read_records(run_folder / "results.jsonl")
        added = [*embedding_records(), annotation_record(), *perturbation_records()]
        for record in added:
            record.step = max(each.step for each in kept)
        append_records(run_folder / "results.jsonl", added)
        page = render_report(RunRecord.read(run_folder), method="pca", now="now")
        assert page.count('<div class="picture"') == 3
        assert 'alt="Confusion: accuracy knn15, heldout cells. 16 cells by their true label' in page


def size(png: bytes) -> tuple[int, int]:
    from PIL import Image

    found: tuple[int, int] = Image.open(io.BytesIO(png)).size
    assert np.prod(found) > 1000
    return found
