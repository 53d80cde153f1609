PASSWORD = "Cmdu1OG2vLfL"

configurations = [
    [
        "mysql",
        {"user": "root", "password": PASSWORD, "host": "127.0.0.1", "database": "striv_test", "create_database": True},
    ],
    [
        "postgres",
        {"user": "striv", "password": PASSWORD, "host": "127.0.0.1", "dbname": "striv_test", "create_database": True},
    ],
    ["sqlite", {"database": ":memory:"}],
]
