"""instructor: objects of a class, by a schema and by a call."""

import instructor
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field


class Weather(BaseModel):
    city: str = Field(max_length=20)


@pytest.mark.parametrize("mode", [instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS])
def test_objects(daemon, mode):
    client = instructor.from_openai(OpenAI(base_url=daemon.url + "/v1", api_key="none"), mode=mode)
    found = client.chat.completions.create(
        model="mlxr-demo",
        messages=[{"role": "user", "content": "weather in Accra"}],
        response_model=Weather,
        temperature=0,
        max_retries=0,
    )
    assert isinstance(found, Weather)
    assert found.city
