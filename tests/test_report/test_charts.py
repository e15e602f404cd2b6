from __future__ import annotations

import re

import pytest

from scmodelforge.report.charts import Line, line_chart


def axis(points, **options) -> list[str]:
    chart = line_chart([Line("a", points, "train")], x_name="step", y_name="count", title="t", **options)
    return re.findall(r'text-anchor="end"[^>]*>([^<]*)<', chart)


class TestAxis:
    def test_a_count_that_stays_at_zero_has_nothing_below(self):
        ticks = axis([(1, 0.0), (9, 0.0)], from_zero=True)
        assert float(ticks[0]) == 0.0
        assert len(ticks) > 1

    @pytest.mark.parametrize(("most", "least_written"), [(2e-3, "0.0005"), (2e-5, "5e-6")])
    def test_numbers_of_one_axis_are_written_alike(self, most, least_written):
        ticks = axis([(1, 0.0), (9, most)])
        assert ticks[1] == least_written
        assert len({"e" in tick for tick in ticks[1:]}) == 1
