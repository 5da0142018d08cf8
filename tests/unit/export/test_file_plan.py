"""Which files an export writes: whole cells once, what is new of others, what changed again, no block twice."""

from random import Random

from indexer.intervals import ALWAYS, contains, intersect, normalise, size, subtract
from indexer.store.export.file_plan import FileStep, plan

FOR_EVER = ((100, ALWAYS),)


def test_whole_cells_and_the_beginning_of_the_next() -> None:
    assert plan(((100, 2_049),), FOR_EVER, [], [], 1_000) == [
        FileStep((100, 999)),
        FileStep((1_000, 1_999)),
        FileStep((2_000, 2_049)),
    ]


def test_what_is_new_is_added_and_the_end_of_a_cell_joins_its_files() -> None:
    there = [(100, 999), (1_000, 1_199)]
    assert plan(((100, 1_499),), FOR_EVER, there, [], 1_000) == [FileStep((1_200, 1_499))]
    there.append((1_200, 1_499))
    assert plan(((100, 2_000),), FOR_EVER, there, [], 1_000) == [
        FileStep((1_000, 1_999), ((1_000, 1_199), (1_200, 1_499))),
        FileStep((2_000, 2_000)),
    ]


def test_the_last_cell_of_a_source_that_ends_is_finished() -> None:
    there = [(0, 9), (10, 19)]
    assert plan(((0, 19),), ((0, 19),), there, [], 1_000) == [FileStep((0, 19), ((0, 9), (10, 19)))]


def test_a_file_whose_rows_changed_is_written_anew() -> None:
    there = [(0, 999), (1_000, 1_199)]
    assert plan(((0, 1_199),), ((0, ALWAYS),), there, [(0, 999)], 1_000) == [FileStep((0, 999), ((0, 999),))]
    changed = plan(((0, 1_299),), ((0, ALWAYS),), there, [(1_000, 1_199)], 1_000)
    assert changed == [FileStep((1_000, 1_299), ((1_000, 1_199),))]


def test_a_file_that_is_not_all_covered_any_more_stays_and_its_blocks_are_in_no_other() -> None:
    available = ((0, 499), (600, 1_999))
    assert plan(available, ((0, ALWAYS),), [(0, 999)], [(0, 999)], 1_000) == [FileStep((1_000, 1_999))]
    assert plan(((0, 1_999),), ((0, ALWAYS),), [(0, 999)], [(0, 999)], 1_000)[0] == FileStep((0, 999), ((0, 999),))


def test_a_gap_in_a_cell() -> None:
    assert plan(((0, 99), (200, 299)), ((0, ALWAYS),), [(0, 99)], [], 1_000) == [FileStep((200, 299))]
    assert plan(((0, 299),), ((0, 299),), [(0, 99), (200, 299)], [], 1_000) == [
        FileStep((0, 299), ((0, 99), (200, 299)))
    ]


def test_whatever_comes_no_block_is_in_two_files_and_none_is_missing() -> None:
    for seed in range(60):
        random = Random(seed)
        width, there = random.choice((7, 50, 400)), []
        wanted = normalise([(random.randint(0, 60), random.choice((ALWAYS, random.randint(100, 900))))])
        available: tuple = ()
        for _ in range(8):
            first = random.randint(0, 900)
            piece = ((first, first + random.randint(0, 300)),)
            given = intersect(normalise([*available, *piece]), wanted)
            available = subtract(given, ((first + 5, first + 9),)) if random.random() < 0.2 else given
            changed = [blocks for blocks in there if random.random() < 0.2]
            for step in plan(available, wanted, there, changed, width):
                assert contains(available, step.blocks)
                there = [blocks for blocks in there if blocks not in step.replaces] + [step.blocks]
                changed = [blocks for blocks in changed if blocks not in step.replaces]
                assert size(normalise(there)) == sum(last - first + 1 for first, last in there), (seed, step)
            assert not [blocks for blocks in changed if contains(available, blocks)]
            assert not subtract(available, normalise(there)), seed
            assert plan(available, wanted, there, [], width) == [], "a second run has nothing to do"
