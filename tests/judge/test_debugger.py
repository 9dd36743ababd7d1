"""A debugger that takes its commands from a list."""

from checks.judge.debugger import scripted_debugger


def test_it_takes_its_commands_and_goes_on(capsys):
    debugger, seen = scripted_debugger("p number + 1", "c"), []
    for number in (1, 41):
        if number == 41:
            debugger.set_trace()
        seen.append(number)
    assert seen == [1, 41]
    said = capsys.readouterr().out.split("\n")
    assert [line for line in said if line] == ["(Pdb) p number + 1", "42", "(Pdb) c"]
