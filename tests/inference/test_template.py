from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("torch", "transformers", "torchvision"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

import tiny_models  # noqa: E402, I001 - before transformers
import transformers  # noqa: E402

from action100m.inference import Image, Message, Request, Sampling, Text  # noqa: E402
from action100m.inference.template import ChatTemplate, RequestError, opening_of  # noqa: E402

# As in Llama-3.2-Vision: the system content is printed, whatever its type.
STRICT = (
    "{% if messages[0].role == 'system' %}SYSTEM {{ messages[0].content | trim }}\n{% endif %}"
    "{% for m in messages if m.role != 'system' %}{{ m.role }}: {% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}{% else %}<|image|>{% endif %}{% endfor %};{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# As in models that always reason.
THINKING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_mllama(tmp_path_factory.mktemp("mllama"))


def processor(folder: Path, template: str | None = None) -> Any:
    made = transformers.AutoProcessor.from_pretrained(folder)
    if template is not None:
        made.chat_template = template
    return made


def request(*messages: Message) -> Request:
    return Request("1", messages, Sampling())


def test_messages_are_given_in_the_form_the_template_expects(folder: Path) -> None:
    template = ChatTemplate(processor(folder, STRICT), sees=True)
    prompt = template.prompt(
        request(
            Message("system", (Text("Be "), Text("short."))),
            Message("user", (Image(np.zeros((4, 4, 3), np.uint8)), Text("What?"))),
        )
    )
    assert prompt == "SYSTEM Be short.\nuser: <|image|>What?;assistant: "


@pytest.mark.parametrize("token", ["<|image|>", "<|end|>", "<|start|>", "<|python_tag|>"])
def test_text_cannot_contain_control_tokens(token: str, folder: Path) -> None:
    made = processor(folder)
    template = ChatTemplate(made, sees=True)

    def control(text: str) -> int:
        prompt = template.prompt(request(Message("user", (Text(text),))))
        ids = made.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return sum(i in made.tokenizer.all_special_ids or i == image for i in ids)

    image = made.tokenizer.convert_tokens_to_ids("<|image|>")
    assert control(f"A title {token}{token} ends") == control("A title ends")


def test_thinking_can_be_closed_before_the_answer(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = THINKING
    template = ChatTemplate(tokenizer, sees=False)
    asked = Message("user", (Text("What?"),))
    free = template.prompt(request(asked))
    bound = template.prompt(request(asked), thought_over=True)
    assert (free, opening_of(free)) == ("user: What?\nassistant: <think>\n", "<think>")
    assert bound == "user: What?\nassistant: <think>\n\n</think>\n\n"
    assert opening_of(bound) == ""


def test_a_conversation_that_the_template_refuses_is_an_error_with_its_reason(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # As in Gemma 2.
    refusal = "{{ raise_exception('System role not supported') }}"
    guard = f"{{% if messages[0].role == 'system' %}}{refusal}{{% endif %}}"
    tokenizer.chat_template = guard + THINKING
    template = ChatTemplate(tokenizer, sees=False)
    with pytest.raises(RequestError, match=r"refuses the conversation: System role not supported"):
        template.prompt(request(Message("system", (Text("Be short."),))))
