"""Duplicates are found whatever the order of the records; near-duplicates are those that a comparison of all with all gives."""

import random

import numpy as np
import pytest
from planted_records import WORDS, sentence

from orca_bench.data.record_checks.duplicates import DuplicateSearch
from orca_bench.data.record_checks.signatures import Signatures, shingle_similarity, signatures_of, text_sha256


def find(texts, numbers=None, batch=7):
    numbers = list(range(len(texts))) if numbers is None else numbers
    with DuplicateSearch() as search:
        for start in range(0, len(texts), batch):
            part = texts[start : start + batch]
            signatures = signatures_of(part, [text_sha256(text) for text in part])
            search.add(np.array(numbers[start : start + batch], np.int64), signatures)
        return search.find()


def edited(text, generator, edits):
    words = text.split()
    for _ in range(edits):
        words[generator.randrange(len(words))] = generator.choice(WORDS)
    return " ".join(words)


def similar_texts(groups=60, seed=0):
    """Texts of 60 to 120 words with copies in which none to nine words are changed."""
    generator = random.Random(seed)
    texts = []
    for group in range(groups):
        text = sentence(group, generator.randrange(60, 120))
        texts += [text, *(edited(text, generator, generator.randrange(0, 10)) for _ in range(4))]
    generator.shuffle(texts)
    return texts


def groups_of(texts, first_by_number):
    groups = {}
    for number, text in enumerate(texts):
        groups.setdefault(first_by_number.get(number, number), set()).add(text)
    return sorted(map(sorted, groups.values()))


def near_groups_by_comparing_all(texts):
    distinct = list(dict.fromkeys(texts))
    shingles = [signatures_of([text], [text_sha256(text)]).shingle_hashes for text in distinct]
    group = list(range(len(distinct)))
    for i in range(len(distinct)):
        for j in range(i):
            if group[i] != group[j] and shingle_similarity(shingles[i], shingles[j]) >= 0.8:
                group = [group[j] if g == group[i] else g for g in group]
    members = {}
    for number, text in enumerate(distinct):
        members.setdefault(group[number], []).append(text)
    return sorted(sorted(texts) for texts in members.values())


def test_the_first_of_equal_texts_is_the_original():
    duplicates = find(["a b c d", "x y z w", "a b c d", "a b c d", "x y z w"])
    assert duplicates.exact == {2: 0, 3: 0, 4: 1} and duplicates.near == {}


def test_nothing_and_one_record_have_no_duplicates():
    assert find([]).exact == find(["a b c"]).near == {}


def test_near_groups_are_those_of_a_comparison_of_all_with_all():
    texts = similar_texts()
    duplicates = find(texts)
    groups = near_groups_by_comparing_all(texts)
    assert 60 < len(groups) < 250
    firsts = duplicates.exact | {
        number: duplicates.near[n] for number, n in duplicates.exact.items() if n in duplicates.near
    }
    assert groups_of(texts, duplicates.near | firsts) == groups
    distinct_count = len(set(texts))
    assert len(duplicates.near) == distinct_count - len(groups)
    assert len(duplicates.exact) == len(texts) - distinct_count


def test_the_order_of_records_and_batches_changes_nothing():
    texts = similar_texts(30)
    expected = find(texts)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    reordered = find([texts[number] for number in order], order, batch=50)
    assert reordered == expected


@pytest.mark.parametrize("seed", range(3))
def test_recall_at_the_threshold_itself(seed):
    """Pairs of a similarity just above 0.8, the hardest: the bands are the same in 99 of 100."""
    generator = random.Random(seed)
    texts, pairs = [], 0
    while pairs < 200:
        text = sentence(generator.randrange(10**9), 100)
        other = edited(text, generator, 4)
        hashes = [signatures_of([t], [text_sha256(t)]).shingle_hashes for t in (text, other)]
        if 0.8 <= shingle_similarity(*hashes) < 0.83:
            texts += [text, other]
            pairs += 1
    assert len(find(texts).near) >= 0.97 * pairs


def test_thousands_of_records_with_one_template_take_no_time_of_their_square():
    template = sentence(3, 60)
    texts = [f"{template} {number}" for number in range(3000)]
    duplicates = find(texts, batch=1000)
    assert len(duplicates.near) == 2999 and set(duplicates.near.values()) == {0}


def test_of_records_that_share_all_bands_only_near_ones_are_joined():
    texts = similar_texts(20)
    signatures = signatures_of(texts, [text_sha256(text) for text in texts])
    one_band = Signatures(
        signatures.text_hashes,
        np.zeros_like(signatures.band_hashes),
        signatures.shingle_counts,
        signatures.shingle_hashes,
    )
    with DuplicateSearch() as search:
        search.add(np.arange(len(texts)), one_band)
        duplicates = search.find()
    groups = near_groups_by_comparing_all(texts)
    assert len(duplicates.near) == len(set(texts)) - len(groups) > 20
