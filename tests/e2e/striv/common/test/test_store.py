def test_a_job_is_found_again(store):
    store.put("one", "payload")
    assert store.get("one") == "payload"


def test_an_unknown_job_is_not_found(store):
    assert store.get("none") is None


def test_jobs_are_counted(store):
    store.put("one", "a")
    store.put("two", "b")
    assert store.count() == 2


def test_any_text_survives(store):
    text = "quotes ' \" and \\ and ünïcödé"
    store.put("text", text)
    assert store.get("text") == text
