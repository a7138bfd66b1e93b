from ext_proc.batching.slots import MAX_SLOTS, FixedSlots, GradientSlots


def device(slots: GradientSlots, capacity: int, batches: int = 400) -> None:
    """A device that runs `capacity` batches of 20 ms side by side, and shares its time out beyond."""
    for _ in range(batches):
        running = slots.count
        slots.observe(running, 0.020, 0.020 * max(1.0, running / capacity))


def test_a_fixed_number_stays() -> None:
    slots = FixedSlots(3)
    slots.observe(3, 0.01, 10.0)
    assert slots.count == 3


def test_it_grows_to_what_the_device_takes() -> None:
    slots = GradientSlots()
    device(slots, capacity=8)
    assert 8 <= slots.count <= 24


def test_it_shrinks_once_batches_wait_for_one_another() -> None:
    slots = GradientSlots(64)
    device(slots, capacity=4)
    assert slots.count <= 16


def test_an_idle_device_teaches_nothing() -> None:
    slots = GradientSlots(16)
    for _ in range(100):
        slots.observe(1, 0.020, 0.020)
    assert slots.count == 16


def test_there_is_always_one_and_there_is_an_end() -> None:
    slots = GradientSlots()
    for _ in range(100):
        slots.observe(1, 0.001, 100.0)
    assert slots.count == 1
    for _ in range(100_000):
        slots.observe(slots.count, 0.020, 0.001)
    assert slots.count == MAX_SLOTS
