"""The models of a configuration against the compiler, and the planted kernels against the check that finds them."""

import pytest
import torch

from checks.pictures.tuning import report_configs
from checks.simulated.buggy_matmuls import PLANTED, TILES, planted_int_mm
from kernels.configs import accumulator_registers, programs_per_multiprocessor, stage_bytes, wrong_configs
from kernels.perrow_w8a8 import GROUPED_CONFIGS
from kernels.runtime import device


@pytest.fixture(scope="module", params=[80, 90])
def reports(request):
    return request.param, report_configs(request.param)


def test_shared_memory_is_what_the_compiler_reports(reports):
    capability, found = reports
    for name, sizes, report in found:
        # Hopper multiplies from shared memory; on Ampere the stage in use is in registers already.
        stages = sizes["num_stages"] - (capability == 80)
        assert report.shared == stage_bytes(sizes["BLOCK_M"], sizes["BLOCK_N"], sizes["BLOCK_K"], stages, 1), name


def test_sums_that_fill_the_registers_are_those_that_spill(reports):
    for name, sizes, report in reports[1]:
        registers = accumulator_registers(sizes["BLOCK_M"], sizes["BLOCK_N"], sizes["num_warps"])
        assert (report.spills > 1000) == (registers > 128), name


def test_two_programs_of_the_first_config_share_a_processor():
    _, _, report = report_configs(90)[0]
    assert GROUPED_CONFIGS[0].num_warps == 8
    assert programs_per_multiprocessor(report.registers, report.shared, 8, 233_472) == 2


def test_planted_kernel_is_wrong_where_steps_do_not_divide_k():
    x_q, w_q = (torch.randint(-127, 128, (rows, 96), dtype=torch.int8, device=device()) for rows in (70, 40))
    assert wrong_configs(planted_int_mm, TILES, x_q, w_q) == [1, 2]
    x_q, w_q = (torch.randint(-127, 128, (rows, 128), dtype=torch.int8, device=device()) for rows in (70, 40))
    assert wrong_configs(planted_int_mm, TILES, x_q, w_q) == []


@pytest.mark.parametrize("planted", PLANTED)
def test_each_planted_mistake_is_where_it_is_said_to_be(planted):
    launch, places = PLANTED[planted]
    x_q, w_q = (torch.randint(-127, 128, (rows, 96), dtype=torch.int8) for rows in (96, 48))
    assert wrong_configs(launch, TILES, x_q, w_q) == places
