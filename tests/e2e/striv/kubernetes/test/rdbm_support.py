import json

with open("./testing-databases.json") as file:
    configurations = json.load(file)
