"""The interactive chat, on a terminal."""

import json
import os
import signal
import time

import pexpect
import pytest

QUESTION = "What is the capital of Norway?"
ANSWER = "The capital of Norway is Oslo."
GREEDY = ("--temperature", "0")


def ask(chat, text, answer):
    chat.sendline(text)
    chat.expect_exact(answer)
    chat.expect_exact(">>> ")


def leave(chat):
    """Ctrl-D at the prompt, once the terminal is in the editor's hands."""
    time.sleep(0.3)
    chat.sendeof()
    chat.expect(pexpect.EOF)


def test_a_conversation_and_its_commands(mlx):
    chat = mlx.chat("mlxr-demo", *GREEDY)
    ask(chat, QUESTION, ANSWER)
    ask(chat, "/regen", ANSWER)
    ask(chat, "/help", "/bye")
    ask(chat, "/set top_k 5", "")
    ask(chat, "/set warmth 5", 'there is no option "warmth"')
    ask(chat, "/system Be brief.", "System message set.")
    ask(chat, "/show", '"top_k":5')
    saved = mlx.home / "talk.json"
    ask(chat, f"/save {saved}", "Saved")
    messages = json.loads(saved.read_text())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant"]
    assert messages[1]["content"] == ANSWER
    ask(chat, "/clear", "A new conversation.")
    ask(chat, "/regen", "there is no answer")
    ask(chat, f"/load {saved}", "Loaded")
    ask(chat, "/load /nowhere.json", "cannot read /nowhere.json")
    ask(chat, "/dance", "there is no command /dance")
    chat.sendline("/bye")
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0


def test_messages_of_several_lines(mlx):
    chat = mlx.chat("mlxr-demo", *GREEDY)
    chat.sendline('"""What is the')
    chat.expect_exact("... ")
    chat.sendline('capital of Norway?"""')
    chat.expect_exact(">>> ")
    chat.sendline("What is the \\")
    chat.expect_exact("... ")
    chat.sendline("capital of Norway?")
    chat.expect_exact(">>> ")
    saved = mlx.home / "talk.json"
    ask(chat, f"/save {saved}", "Saved")
    texts = [m["content"] for m in json.loads(saved.read_text())["messages"] if m["role"] == "user"]
    assert texts == ["What is the\ncapital of Norway?", "What is the \ncapital of Norway?"]
    leave(chat)


def test_a_refused_question_does_not_spoil_the_next(mlx):
    mlx.environment["MLXR_CONTEXT_LENGTH"] = "48"
    chat = mlx.chat("mlxr-demo", *GREEDY)
    ask(chat, "word " * 60, "tokens")
    ask(chat, QUESTION, ANSWER)
    leave(chat)


def test_ctrl_c_between_answer_and_prompt_is_harmless(mlx):
    chat = mlx.chat("mlxr-demo", *GREEDY)
    for _ in range(5):
        chat.sendline("Tell me a story about a fox and a lantern")
        for _ in range(10):
            time.sleep(0.01)
            chat.sendintr()
    ask(chat, QUESTION, ANSWER)
    leave(chat)


def test_control_characters_of_an_answer_do_not_reach_the_terminal(mlx, fake_daemon):
    fake_daemon("a\x1b]0;title\x07b\u009b2Jc\td\u00e9")
    chat = mlx.chat("any-model")
    chat.sendline("hello")
    chat.expect(r"a\]0;titleb2Jc\s+dé\r\n")
    leave(chat)
    piped = mlx.run("run", "any-model", "hello")
    assert piped.stdout == "a\x1b]0;title\x07b\u009b2Jc\td\u00e9\n"


def test_history_is_kept_and_private(mlx):
    chat = mlx.chat("mlxr-demo", *GREEDY)
    ask(chat, QUESTION, ANSWER)
    chat.sendline("/bye")
    chat.expect(pexpect.EOF)
    history = mlx.home / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    chat = mlx.chat("mlxr-demo", *GREEDY)
    chat.send("\x1b[A\x1b[A")  # up, up: past "/bye" to the question
    chat.expect_exact(QUESTION)
    chat.sendline("")
    chat.expect_exact(ANSWER)
    leave(chat)


def test_ctrl_c_stops_the_answer_and_not_the_program(mlx):
    chat = mlx.chat("mlxr-demo", *GREEDY)
    daemon = json.loads((mlx.home / "daemon.json").read_text())["pid"]
    os.kill(daemon, signal.SIGSTOP)  # an answer that never comes
    try:
        chat.sendline(QUESTION)
        with pytest.raises(pexpect.TIMEOUT):
            chat.expect_exact(">>> ", timeout=0.5)
        chat.sendintr()
        chat.expect_exact("^C")
        chat.expect_exact(">>> ")
    finally:
        os.kill(daemon, signal.SIGCONT)
    ask(chat, "/clear", "A new conversation.")
    ask(chat, QUESTION, ANSWER)
    ask(chat, "/help", "/bye")
    chat.send("half a line")
    time.sleep(0.3)
    chat.sendintr()  # at the prompt: the line is thrown away
    chat.expect_exact("^C")
    chat.expect_exact(">>> ")
    leave(chat)
    chat.close()
    assert chat.exitstatus == 0
    for _ in range(100):
        if json.loads(mlx.run("ps", "--json").stdout)["models"][0]["running"] == 0:
            return
        time.sleep(0.05)
    pytest.fail("the answer that was stopped still runs")
