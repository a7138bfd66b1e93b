"""Curves in files: our own CSV there and back, and those of Triton's Perf Analyzer."""

import pytest

from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve, Point
from ext_proc.planning.curve_files import read_curve, read_perf_analyzer, write_curve

HEAD = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency\n"
)
ONE = (
    HEAD + "1,69.2,225,2148,64,206,11781,19,0,13891,18795,19753,21018\n"
    "3,84.2,237,1768,21673,209,11742,17,0,35398,43984,47085,51701\n"
)
EIGHT = HEAD + "4,100,237,1768,90000,209,31742,17,0,95398,0,0,0\n2,100,200,1800,30000,210,31700,20,1,65398,0,0,0\n"


def test_our_csv_there_and_back() -> None:
    curve = Curve((Point(1, 0.0125, 0.0005, 9), Point(10, 0.0203, 0.00012, 9)))
    text = write_curve(curve)
    assert text == "rows,median_ms,deviation_ms,repeats\n1,12.5,0.5,9\n10,20.3,0.12,9\n"
    assert write_curve(read_curve(text, "f")) == text
    assert read_curve(text, "f").points[1].seconds == pytest.approx(0.0203)


def test_two_columns_are_enough_and_order_is_free() -> None:
    assert read_curve("\ufeffmedian_ms, rows\n20, 4\n10, 1\n", "f").points == (Point(1, 0.01), Point(4, 0.02))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'rows'; those that there are: none"),
        ("rows,ms\n1,2\n", "no column 'median_ms'; those that there are: rows, ms"),
        ("rows,median_ms\n", "nothing under its head"),
        ("rows,median_ms\n1,fast\n", r"line 2: median_ms is not a number from 0 on \(found 'fast'\)"),
        ("rows,median_ms\n1,10\n1.5,20\n", r"line 3: rows is not a whole number \(found '1.5'\)"),
        ("rows,median_ms\n1,10\n1,20\n", "different numbers"),
        ("rows,median_ms\n1\n", r"line 2: median_ms is not a number from 0 on \(found None\)"),
        ("rows,median_ms\n1,0\n", "times of a batch-time curve are over 0"),
        ("rows,median_ms\n1,inf\n", "not a number"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, says: str) -> None:
    with pytest.raises(TbmsError, match=f"^--curve f: .*{says}"):
        read_curve(text, "--curve f")


def test_of_perf_analyzer_the_lowest_concurrency_counts_without_its_queue() -> None:
    curve = read_perf_analyzer({8: ("eight", EIGHT), 1: ("one", ONE)})
    micros = (225 + 2148 + 206 + 11781 + 19 + 0, 200 + 1800 + 210 + 31700 + 20 + 1)
    assert [point.rows for point in curve.points] == [1, 8]
    assert [point.seconds * 1e6 for point in curve.points] == pytest.approx(micros)


def test_perf_analyzer_by_request_rate_of_old_and_without_a_server_that_tells() -> None:
    rate = "Request Rate,Inferences/Second,Server Queue,Server Compute,p50 latency\n20,1,900,5000,0\n10,1,100,4000,0\n"
    assert read_perf_analyzer({1: ("f", rate)}).seconds(1) == pytest.approx(0.004)
    plain = "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency\n1,100,5,5,9000\n"
    assert read_perf_analyzer({1: ("f", plain)}).seconds(1) == pytest.approx(0.009)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rows,median_ms\n1,2\n", "no column 'Inferences/Second'"),
        ("Concurrency,Inferences/Second\n1,2\n", "neither a column 'Server Queue' nor 'p50 latency'"),
        ("Concurrency,Inferences/Second,p50 latency\n1,2,0\n", "sum up to nothing"),
        (HEAD + "1,69\n", "line 2: Client Send is not a number"),
    ],
)
def test_what_is_no_file_of_perf_analyzer_is_refused(text: str, says: str) -> None:
    with pytest.raises(TbmsError, match=f"^f: .*{says}"):
        read_perf_analyzer({1: ("f", text)})
