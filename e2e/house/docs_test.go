package house

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocs_PointAtWhatExists follows what a reader would follow: links between the pages, goals of make, tests by name.
func TestDocs_PointAtWhatExists(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, complaint := range pageComplaints(page, string(text), string(makefile), tests) {
			t.Error(complaint)
		}
	}
}

func TestDocs_ComplaintsGiveTheReason(t *testing.T) {
	const makefile = "test-lab: bin/lab ## Run\n"
	for name, row := range map[string]struct{ text, want string }{
		"nothing wrong":           {"`make test-lab RUN=TestKill` and [rules](CONTRIBUTING.md#x), [web](https://example.org)", ""},
		"a page that is not here": {"[lost](docs/lost.md)", "links to docs/lost.md"},
		"a goal make lacks":       {"`make coffee`", "make coffee"},
		"a test nobody wrote":     {"`make test-lab RUN=TestPeace`", "TestPeace"},
	} {
		t.Run(name, func(t *testing.T) {
			expectOne(t, pageComplaints(filepath.Join(root, "README.md"), row.text, makefile, []string{"TestKilled_Node"}), row.want)
		})
	}
}

func pageComplaints(page, text, makefile string, tests []string) []string {
	var complaints []string
	name := filepath.ToSlash(strings.TrimPrefix(page, root+string(filepath.Separator)))
	for _, link := range links(text) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), link[1])); err != nil {
			complaints = append(complaints, fmt.Sprintf("%s links to %s, which does not exist: write the page or take the link away", name, link[1]))
		}
	}
	for _, goal := range regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z-]*)").FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(goal[1]) + `:`).MatchString(makefile) {
			complaints = append(complaints, fmt.Sprintf("%s says make %s, which the Makefile does not have: readers type what they read", name, goal[1]))
		}
	}
	for _, run := range regexp.MustCompile(`RUN=(Test\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains("\n"+strings.Join(tests, "\n"), "\n"+run[1]) {
			complaints = append(complaints, fmt.Sprintf("%s names the test %s, which does not exist: go test -run of it passes without running anything, so the promise is not shown",
				name, run[1]))
		}
	}
	return complaints
}

// TestDocs_AreLinked: a page that README does not name is found by nobody.
func TestDocs_AreLinked(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		name := "docs/" + filepath.Base(page)
		if !slices.ContainsFunc(links(string(readme)), func(link []string) bool { return link[1] == name }) {
			t.Errorf("README.md does not link to %s: give it a line under \"Read on\"", name)
		}
	}
}

// links are those of a page to files: what stands in code is no link.
func links(text string) [][]string {
	prose := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(text, "``")
	return regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(prose, -1)
}

// testNames returns the names of all test functions of this module.
func testNames(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, s := range readSources(t) {
		if !s.isTest() {
			continue
		}
		for _, function := range functions(s) {
			if strings.HasPrefix(function.Name.Name, "Test") {
				names = append(names, function.Name.Name)
			}
		}
	}
	return names
}
