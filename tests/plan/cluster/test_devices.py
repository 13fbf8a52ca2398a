import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.cluster.devices import Cluster, device_in, devices, parse_hardware


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("h100", "h100", 1),
        ("h100x8", "h100", 8),
        ("H100x8", "h100", 8),
        ("8xh100", "h100", 8),
        (" a100x64 ", "a100", 64),
        ("a100-80x64", "a100", 64),
        ("a100-40x64", "a100-40", 64),
        ("4090x2", "4090", 2),
        ("2x4090", "4090", 2),
        ("rtx4090", "4090", 1),
        ("mi300x", "mi300x", 1),
        ("mi300xx8", "mi300x", 8),
        ("mi300x8", "mi300x", 8),
        ("tpu-v3-8", "tpu-v3-8", 1),
        ("tpu-v3-8x4", "tpu-v3-8", 4),
        ("tpu-v5ex256", "tpu-v5e", 256),
    ],
)
def test_names_and_counts(text: str, name: str, count: int) -> None:
    cluster = parse_hardware(text)
    assert (cluster.device.name, cluster.count) == (name, count)


@given(st.sampled_from(sorted(devices())), st.integers(1, 999_999))
def test_every_cluster_is_read_by_its_own_name(name: str, count: int) -> None:
    cluster = Cluster(devices()[name], count)
    assert parse_hardware(cluster.name) == cluster
    assert (cluster.nodes - 1) * cluster.device.node_size < count <= cluster.nodes * cluster.device.node_size


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h1000x8", "did you mean 'h100'"),
        ("8xh1000", "did you mean 'h100'"),
        ("tpu-v33-8", "did you mean 'tpu-v3-8'"),
        ("abacus", "known: 3090, 4090"),
        ("", "known:"),
        ("x8", "known:"),
        ("h100x0", "from 1 to 999999"),
        ("h100x1000000", "from 1 to 999999"),
    ],
)
def test_other_names_are_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as error:
        parse_hardware(text)
    assert "\n" not in str(error.value)


@given(st.text())
def test_no_text_gives_another_error(text: str) -> None:
    with contextlib.suppress(UserError):
        assert parse_hardware(text).count >= 1


@pytest.mark.parametrize(
    ("name", "tflops", "memory_gb", "bandwidth_gb"),
    [
        # nanochat's common.py, stas00's accelerator tables and the scaling book; sparse peaks are twice these.
        ("v100", 125, 32, 900),
        ("a100", 312, 80, 2039),
        ("a100-40", 312, 40, 1555),
        ("h100", 989, 80, 3350),
        ("h100-pcie", 756, 80, 2000),
        ("h200", 989, 141, 4800),
        ("b200", 2250, 180, 8000),
        ("mi300x", 1307, 192, 5300),
        ("4090", 165.2, 24, 1008),
        ("tpu-v5e", 197, 16, 810),
        ("tpu-v5p", 459, 96, 2800),
        ("tpu-v6e", 920, 32, 1600),
    ],
)
def test_peaks_are_dense_and_as_published(name: str, tflops: float, memory_gb: float, bandwidth_gb: float) -> None:
    device = devices()[name]
    assert device.flops_bf16 == pytest.approx(tflops * 1e12, rel=0.01)
    assert device.memory_bytes / 2**30 == pytest.approx(memory_gb, rel=0.02)
    assert device.memory_bandwidth == pytest.approx(bandwidth_gb * 1e9, rel=0.04)


@pytest.mark.parametrize(
    ("name", "advertised_gb"), [("v100", 300), ("a100", 600), ("h100", 900), ("h200", 900), ("b200", 1800)]
)
def test_nvlink_counts_one_direction(name: str, advertised_gb: float) -> None:
    """Makers add both directions."""
    assert devices()[name].link_bandwidth == advertised_gb * 1e9 / 2


def test_boards_of_four_chips() -> None:
    """Google sells v2 and v3 by the board: 180 TFLOPS and 64 GiB, 420 TFLOPS and 128 GiB."""
    v2, v3 = devices()["tpu-v2-8"], devices()["tpu-v3-8"]
    assert (v2.flops_bf16, v2.memory_bytes) == (180e12, 64 << 30)
    assert (v3.flops_bf16, v3.memory_bytes) == (420e12, 128 << 30)


@pytest.mark.parametrize("name", sorted(devices()))
def test_every_row_is_possible_and_says_where_it_is_from(name: str) -> None:
    device = devices()[name]
    assert device.flops_bf16 > device.flops_fp32 > 1e13
    # Memory is faster than links, and links are no slower than the network.
    assert device.memory_bandwidth > device.link_bandwidth >= device.network_bandwidth > 1e9
    assert 50 < device.watts < 2000
    assert device.node_size >= 1
    assert re.search(r".{10,}\(20\d\d-\d\d\)$", device.source)


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA GeForce RTX 3090", "3090"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_devices_are_known_by_what_drivers_call_them(driver: str, name: str) -> None:
    found = device_in(driver)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("driver", ["NVIDIA GeForce GTX 1080", "NVIDIA L400", "", "Tesla T4"])
def test_unknown_devices_are_not_taken_for_others(driver: str) -> None:
    assert device_in(driver) is None
