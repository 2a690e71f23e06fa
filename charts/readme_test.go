package charts

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestReadme_TellsOfEachValue: the tables of the README are made of the comments in values.yaml and in examples/.
func TestReadme_TellsOfEachValue(t *testing.T) {
	const file = "spillway/README.md"
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(have)
	for name, table := range map[string]string{"values": valuesTable(t), "examples": examplesTable(t)} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		before, rest, found := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("the README has no place between %q and %q", begin, end)
		}
		want = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(have), "\n")); diff != "" {
		t.Errorf("the README does not say what values.yaml says (-want +got); write it with -update:\n%s", diff)
	}
}

func valuesTable(t *testing.T) string {
	t.Helper()
	text, err := fs.ReadFile(Spillway(), "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	rows, undocumented := rowsOf("", root.Content[0])
	for _, name := range undocumented {
		t.Errorf("no comment says what %s is", name)
	}
	return "| value | default | what it is |\n|---|---|---|\n" + rows
}

// rowsOf goes through a mapping. A value with a comment of its own is a row; one without has rows inside.
func rowsOf(prefix string, mapping *yaml.Node) (rows string, undocumented []string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name, comment := prefix+key.Value, key.HeadComment
		if j := strings.LastIndex(comment, "\n\n"); j >= 0 { // what is about the whole file
			comment = comment[j:]
		}
		switch inside := value.Kind == yaml.MappingNode && len(value.Content) > 0; {
		case comment == "" && inside:
			more, missing := rowsOf(name+".", value)
			rows, undocumented = rows+more, append(undocumented, missing...)
		case comment == "":
			undocumented = append(undocumented, name)
		default:
			rows += fmt.Sprintf("| `%s` | %s | %s |\n", name, defaultOf(value), sentence(comment))
		}
	}
	return rows, undocumented
}

func defaultOf(value *yaml.Node) string {
	var any any
	if err := value.Decode(&any); err != nil {
		return "?"
	}
	text, err := json.Marshal(any)
	if err != nil || string(text) == `""` {
		return ""
	}
	return "`" + strings.Trim(string(text), `"`) + "`"
}

func sentence(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.TrimSpace(strings.TrimLeft(line, "# ")))
	}
	return strings.TrimSpace(strings.ReplaceAll(strings.Join(words, " "), "|", `\|`))
}

func examplesTable(t *testing.T) string {
	t.Helper()
	files, err := fs.Glob(Spillway(), "examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	out := "| file | for |\n|---|---|\n"
	for _, file := range files {
		text, err := fs.ReadFile(Spillway(), file)
		if err != nil {
			t.Fatal(err)
		}
		var comment []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				break
			}
			comment = append(comment, line)
		}
		if len(comment) == 0 {
			t.Errorf("%s does not begin with a comment that says what it is for", file)
		}
		out += fmt.Sprintf("| [%s](%s) | %s |\n", path.Base(file), file, sentence(strings.Join(comment, "")))
	}
	return out
}
