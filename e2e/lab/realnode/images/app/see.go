package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// witness notes what a container sees where the kubelet reads it when the container ends: the pod's status shows it then.
type witness struct {
	to   string // a file, "-" is the standard output
	text strings.Builder
}

// see does each of its arguments in order. VERB:ARGUMENT notes a line `VERB:ARGUMENT "what there is"`, except those that do something:
//
//	env:NAME file:PATH tree:DIR host cwd id args procs mount:PATH write:PATH resolve:NAME finds:NAME status:FIELD proc:PATH get:URL stdin
//	to:PATH touch:PATH until:PATH until:PATH=CONTENT first:PATH:CODE serve:ADDR stay hog:MEGABYTES exit:CODE kill
//
// After the word -- come arguments of no meaning, for args.
func see(words []string) error {
	w := &witness{to: "/dev/termination-log"}
	for _, word := range words {
		if word == "--" {
			break
		}
		verb, argument, _ := strings.Cut(word, ":")
		if err := w.do(verb, argument); err != nil {
			return fmt.Errorf("%s: %w", word, errors.Join(err, w.flush()))
		}
		if what, ok := look(verb, argument); ok {
			fmt.Fprintf(&w.text, "%s %q\n", word, what)
		}
	}
	return w.flush()
}

func (w *witness) flush() error {
	if w.to == "-" {
		_, err := io.WriteString(os.Stdout, w.text.String())
		return err
	}
	return os.WriteFile(w.to, []byte(w.text.String()), 0o644)
}

// end notes what was seen and ends the container.
func (w *witness) end(code int) error {
	if err := w.flush(); err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// do is for the words that change something; it knows nothing of the others.
func (w *witness) do(verb, argument string) error {
	switch verb {
	case "to":
		w.to = argument
	case "touch":
		return os.WriteFile(argument, nil, 0o644)
	case "until":
		return await(argument)
	case "first":
		path, code, _ := strings.Cut(argument, ":")
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		n, err := strconv.Atoi(code)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
		return w.end(n)
	case "serve":
		l, err := net.Listen("tcp", argument)
		if err != nil {
			return err
		}
		go func() { _ = http.Serve(l, http.HandlerFunc(health)) }() // it ends with the program
	case "stay":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		<-ctx.Done()
	case "exit":
		n, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		return w.end(n)
	case "hog":
		n, err := strconv.Atoi(argument)
		return errors.Join(err, hog(n))
	case "kill":
		if err := w.flush(); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return nil
}

// hog takes that many megabytes of memory, and gives them back.
func hog(megabytes int) error {
	data := make([]byte, megabytes<<20)
	for i := 0; i < len(data); i += 4096 {
		data[i] = 1
	}
	return nil
}

// health answers ok, and 500 for /broken.
func health(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/broken" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = io.WriteString(w, "ok\n")
}

// await waits until a file exists, with that content if one is said (PATH=CONTENT), for a minute at most.
func await(what string) error {
	path, want, said := strings.Cut(what, "=")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if data, err := os.ReadFile(path); err == nil && (!said || string(data) == want) {
			return nil
		}
		<-tick.C
	}
	return errors.New("it does not come")
}

// look says what there is; false for a word that is not about looking.
func look(verb, argument string) (string, bool) {
	switch verb {
	case "env":
		if v, ok := os.LookupEnv(argument); ok {
			return v, true
		}
		return "(unset)", true
	case "file":
		return file(argument), true
	case "tree":
		return tree(argument), true
	case "host":
		name, err := os.Hostname()
		return told(name, err), true
	case "cwd":
		dir, err := os.Getwd()
		return told(dir, err), true
	case "id":
		groups, err := os.Getgroups()
		slices.Sort(groups)
		return told(fmt.Sprint(os.Getuid(), os.Getgid(), groups), err), true
	case "args":
		return strings.Join(os.Args[2:], " "), true
	case "procs":
		return processes(), true
	case "mount":
		return mount(argument), true
	case "write":
		return told("written", os.WriteFile(argument, []byte("x"), 0o644)), true
	case "resolve":
		found, err := net.DefaultResolver.LookupHost(context.Background(), argument)
		slices.Sort(found)
		return told(strings.Join(found, " "), err), true
	case "finds":
		return finds(argument), true
	case "status":
		return field("/proc/self/status", argument), true
	case "proc":
		data, err := os.ReadFile(argument)
		return told(strings.TrimSpace(string(data)), err), true
	case "get":
		return fetched(argument), true
	case "stdin":
		data, err := io.ReadAll(os.Stdin)
		return told(string(data), err), true
	}
	return "", false
}

// finds says whether DNS has addresses of a name, whatever they are.
func finds(name string) string {
	_, err := net.DefaultResolver.LookupHost(context.Background(), name)
	var answer *net.DNSError
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &answer):
		return answer.Err // without the address of the server
	}
	return told("", err)
}

func told(what string, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return what
}

// file is the mode, owner and content of one, links followed.
func file(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return told("", err)
	}
	owner := ""
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = fmt.Sprintf("%d:%d", s.Uid, s.Gid)
	}
	if info.IsDir() {
		return fmt.Sprint(info.Mode(), " ", owner)
	}
	data, err := os.ReadFile(path)
	return fmt.Sprint(info.Mode(), " ", owner, " ", told(string(data), err))
}

// tree is file of all that a directory holds, but for the kubelet's own ..data and what it points to.
func tree(dir string) string {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), "..") {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name, _ := filepath.Rel(dir, path)
		lines = append(lines, name+" "+file(path))
		return nil
	})
	return told(strings.Join(lines, "; "), err)
}

// processes are the names of those that the container sees, sorted.
func processes() string {
	found, err := filepath.Glob("/proc/[0-9]*/comm")
	var names []string
	for _, path := range found {
		if data, err := os.ReadFile(path); err == nil {
			names = append(names, strings.TrimSpace(string(data)))
		}
	}
	slices.Sort(names)
	return told(strings.Join(names, " "), err)
}

// mount is the kind and the options of what is mounted at a path.
func mount(path string) string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(data), "\n") {
		before, after, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 6 || len(right) < 3 || left[4] != path {
			continue
		}
		size := ""
		for _, option := range strings.Split(right[2], ",") {
			if strings.HasPrefix(option, "size=") {
				size = " " + option
			}
		}
		return right[0] + " " + left[5] + size
	}
	return told("not mounted", err)
}

func field(path, name string) string {
	data, err := os.ReadFile(path)
	for _, line := range strings.Split(string(data), "\n") {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return told("(none)", err)
}

func fetched(url string) string {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return told("", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return told(resp.Status+" "+string(data), err)
}
