// Package house holds the rules of the house that a machine can check: who may import whom, and how source looks.
//
// It is tests only. Each failure says what is wrong and why the rule is there. It knows nothing of what the code does.
package house

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root = "../.." // of the module

	maxFunctionLines = 60
	maxFileLines     = 400
	maxParameters    = 5
)

// source is one Go file.
type source struct {
	path string // from the root of the module, with slashes
	text []byte
	fset *token.FileSet
	ast  *ast.File
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }
func (s source) room() string { return roomOf(path.Dir(s.path)).path }

// generated reports whether the file carries the "Code generated … DO NOT EDIT." line.
func (s source) generated() bool { return ast.IsGenerated(s.ast) }

func (s source) at(node ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(node.Pos()).Line)
}

// rule returns one sentence per place where a file breaks it.
type rule func(source) []string

// rules are those that look at one file at a time.
func rules() []rule {
	return []rule{formatted, shortFile, shortFunctions, fewParameters, tellingPackageName, noInit, noBackground, noSleep, plainErrors}
}

func TestSource_FollowsTheRules(t *testing.T) {
	described := map[string]bool{} // folder → some file has a package comment
	for _, s := range readSources(t) {
		for _, check := range rules() {
			for _, complaint := range check(s) {
				t.Error(complaint)
			}
		}
		folder := path.Dir(s.path)
		described[folder] = described[folder] || s.ast.Doc != nil
	}
	for folder, ok := range described {
		if !ok {
			t.Errorf("%s has no package comment: say what the package knows, what it does not know, and give one example", folder)
		}
	}
}

func TestSource_ComplaintsGiveTheReason(t *testing.T) {
	const head = "package provider\n\n"
	long := "func long() {\n" + strings.Repeat("\tprintln()\n", maxFunctionLines) + "}\n"
	for name, row := range map[string]struct {
		path, text string
		want       string // part of the only complaint; empty: none
	}{
		"nothing wrong":               {"provider/a.go", head + "func f() {}\n", ""},
		"not gofmt-ed":                {"provider/a.go", head + "func f()   {}\n", "gofmt"},
		"a long function":             {"provider/a.go", head + long, "long has 62 lines"},
		"a long function in a test":   {"provider/a_test.go", head + long, ""},
		"a long file":                 {"provider/a.go", head + strings.Repeat("// x\n", maxFileLines), "the file has 402 lines"},
		"many parameters":             {"provider/a.go", head + "func f(a, b, c int, d, e, g string) {}\n", "6 parameters"},
		"a package that says nothing": {"provider/util/a.go", "package util\n", "says nothing"},
		"an init":                     {"provider/a.go", head + "func init() {}\n", "init()"},
		"Background in a loop":        {"provider/a.go", head + "import \"context\"\n\nvar x = context.Background()\n", "context.Background"},
		"Background in main":          {"cmd/spillwayd/main.go", "package main\n\nimport \"context\"\n\nvar x = context.Background()\n", ""},
		"a sleep in a test":           {"provider/a_test.go", head + "import \"time\"\n\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		"a clock in translate":        {"reflector/translate/a.go", "package translate\n\nimport \"time\"\n\nvar x = time.Now()\n", "no clock"},
		"failed to":                   {"provider/a.go", head + "import \"errors\"\n\nvar err = errors.New(\"failed to run\")\n", "failed to"},
	} {
		t.Run(name, func(t *testing.T) {
			var complaints []string
			for _, check := range rules() {
				complaints = append(complaints, check(parse(t, row.path, []byte(row.text)))...)
			}
			expectOne(t, complaints, row.want)
		})
	}
}

func formatted(s source) []string {
	want, err := format.Source(s.text)
	if err != nil || !bytes.Equal(want, s.text) {
		return []string{fmt.Sprintf("%s is not gofmt-ed: run gofmt -w %s", s.path, s.path)}
	}
	return nil
}

func shortFile(s source) []string {
	lines := bytes.Count(s.text, []byte("\n"))
	if s.isTest() || s.generated() || lines <= maxFileLines {
		return nil
	}
	return []string{fmt.Sprintf("%s: the file has %d lines, %d at most: it knows more than one thing; split it by what each part knows",
		s.path, lines, maxFileLines)}
}

func shortFunctions(s source) []string {
	if s.isTest() || s.generated() {
		return nil
	}
	var complaints []string
	for _, function := range functions(s) {
		lines := s.fset.Position(function.End()).Line - s.fset.Position(function.Pos()).Line + 1
		if lines > maxFunctionLines {
			complaints = append(complaints, fmt.Sprintf("%s: %s has %d lines, %d at most: nobody can keep more in mind; take the decision out of the doing",
				s.at(function), function.Name.Name, lines, maxFunctionLines))
		}
	}
	return complaints
}

func fewParameters(s source) []string {
	if s.isTest() || s.generated() {
		return nil
	}
	var complaints []string
	for _, function := range functions(s) {
		if n := function.Type.Params.NumFields(); n > maxParameters {
			complaints = append(complaints, fmt.Sprintf("%s: %s has %d parameters, %d at most: callers mix them up; take a struct",
				s.at(function), function.Name.Name, n, maxParameters))
		}
	}
	return complaints
}

func tellingPackageName(s source) []string {
	switch name := strings.TrimSuffix(s.ast.Name.Name, "_test"); name {
	case "util", "utils", "common", "helper", "helpers", "types", "interfaces", "misc", "shared":
		return []string{fmt.Sprintf("%s: a package named %s says nothing and collects everything: name it by what it knows", s.path, name)}
	}
	return nil
}

func noInit(s source) []string {
	var complaints []string
	for _, function := range functions(s) {
		if function.Name.Name == "init" && function.Recv == nil {
			complaints = append(complaints, s.at(function)+": no init(): what runs by being imported cannot be tested or ordered; call it from main")
		}
	}
	return complaints
}

func noBackground(s source) []string {
	if s.isTest() || under(s.path, "cmd") || under(s.path, "build") || under(s.path, "e2e") {
		return nil
	}
	return calls(s, "a context made here is never cancelled: take ctx as the first parameter", "context.Background", "context.TODO")
}

func noSleep(s source) []string {
	complaints := calls(s, "a sleep is too long or too short, never right: wait for the condition, a timer with ctx, or use a fake clock", "time.Sleep")
	if s.room() == "reflector/translate" && !s.isTest() {
		complaints = append(complaints, calls(s, "translate is pure and has no clock: take the time as an argument", "time.Now", "time.Since", "time.Until")...)
	}
	return complaints
}

func plainErrors(s source) []string {
	var complaints []string
	ast.Inspect(s.ast, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		text, ok := call.Args[0].(*ast.BasicLit)
		if name := callee(call); ok && (name == "fmt.Errorf" || name == "errors.New") && strings.HasPrefix(text.Value, `"failed to`) {
			complaints = append(complaints, s.at(call)+`: an error that starts with "failed to" piles up when wrapped: say the deed, as in "create pod x on y: %w"`)
		}
		return true
	})
	return complaints
}

// calls returns a complaint for each call of one of the named functions.
func calls(s source, why string, names ...string) []string {
	var complaints []string
	ast.Inspect(s.ast, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		for _, name := range names {
			if callee(call) == name {
				complaints = append(complaints, fmt.Sprintf("%s: no %s here: %s", s.at(call), name, why))
			}
		}
		return true
	})
	return complaints
}

// callee is "package.Function" as written, or empty.
func callee(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := selector.X.(*ast.Ident); ok {
		return x.Name + "." + selector.Sel.Name
	}
	return ""
}

func functions(s source) []*ast.FuncDecl {
	var out []*ast.FuncDecl
	for _, declaration := range s.ast.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok {
			out = append(out, function)
		}
	}
	return out
}

// readSources reads every Go file of this module, whatever its build tags; nested modules and testdata are left out.
func readSources(t *testing.T) []source {
	t.Helper()
	var sources []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipFolder(name, entry.Name())
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		sources = append(sources, parse(t, filepath.ToSlash(relative), text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// skipFolder returns fs.SkipDir for folders whose Go files are not of this module.
func skipFolder(name, base string) error {
	if name == root {
		return nil
	}
	if base == "testdata" || base == "bin" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); !errors.Is(err, fs.ErrNotExist) {
		return fs.SkipDir
	}
	return nil
}

func parse(t *testing.T, name string, text []byte) source {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return source{path: name, text: text, fset: fset, ast: file}
}
