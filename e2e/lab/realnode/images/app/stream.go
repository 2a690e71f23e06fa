package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// stream does what is about bytes that come and go; false when it knows no such word.
func stream(word string, args []string) (known bool, err error) {
	switch word {
	case "true":
		return true, nil
	case "copy":
		_, err = io.Copy(os.Stdout, os.Stdin)
	case "sum":
		err = sum(args)
	case "bytes":
		err = someBytes(argument(args, 0, "0"), argument(args, 1, "") == "heard")
	case "fill":
		err = fill(argument(args, 0, "0"))
	case "say":
		err = say(args)
	case "tty":
		err = tty()
	case "busy":
		err = busy(argument(args, 0, ""))
	case "touch", "rm":
		err = mark(argument(args, 0, ""), word == "touch")
	case "echo":
		err = echo(argument(args, 0, ":7"))
	case "ps":
		err = ps()
	default:
		return false, nil
	}
	return true, err
}

// sum prints how many bytes there were and their SHA-256, of a file or of the standard input until its end.
func sum(files []string) error {
	in := os.Stdin
	if len(files) > 0 {
		f, err := os.Open(files[0])
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	h := sha256.New()
	n, err := io.Copy(h, in)
	fmt.Println(n, hex.EncodeToString(h.Sum(nil)))
	return err
}

// someBytes writes bytes of every value, the same in each run, and then their sum (see sum) on the standard error. With heard it then
// stays until the standard input ends.
func someBytes(count string, heard bool) error {
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return fmt.Errorf("number of bytes: %w", err)
	}
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(os.Stdout, h), rand.NewChaCha8([32]byte{1}), n); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, n, hex.EncodeToString(h.Sum(nil)))
	if heard {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	return err
}

// fill prints numbered lines of 100 bytes, as fast as somebody reads them.
func fill(lines string) error {
	n, err := strconv.Atoi(lines)
	if err != nil {
		return fmt.Errorf("number of lines: %w", err)
	}
	out := bufio.NewWriter(os.Stdout)
	for i := range n {
		fmt.Fprintf(out, "%08d %s\n", i, strings.Repeat("x", 90))
	}
	return out.Flush()
}

// say prints its first word on the standard output, its second on the standard error, and ends with its third.
func say(words []string) error {
	fmt.Fprintln(os.Stdout, argument(words, 0, ""))
	fmt.Fprintln(os.Stderr, argument(words, 1, ""))
	code, err := strconv.Atoi(argument(words, 2, "0"))
	if err != nil {
		return fmt.Errorf("exit code: %w", err)
	}
	os.Exit(code)
	return nil
}

// tty prints the size of its terminal, again whenever it changes, and ends with a line that says so.
func tty() error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("this is no terminal")
	}
	changed, lines := make(chan os.Signal, 8), make(chan string)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
		close(lines)
	}()
	last := ""
	for {
		width, height, err := term.GetSize(int(os.Stdin.Fd()))
		if err != nil {
			return err
		}
		if size := fmt.Sprintf("%dx%d", width, height); size != last {
			fmt.Println("size", size)
			last = size
		}
		select {
		case <-changed:
		case line, ok := <-lines:
			if !ok || line == "end" {
				return nil
			}
			fmt.Println("you said", line)
		}
	}
}

// busy takes all the CPU it gets while the file exists, and none while it does not.
func busy(file string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	idle := time.NewTicker(100 * time.Millisecond)
	defer idle.Stop()
	for {
		if _, err := os.Stat(file); err == nil {
			for h := range 10000 {
				_ = sha256.Sum256([]byte{byte(h)})
			}
			select {
			case <-ended:
				return nil
			default:
				continue
			}
		}
		select {
		case <-ended:
			return nil
		case <-idle.C:
		}
	}
}

// echo gives back what TCP connections bring, each until its other side ends writing.
func echo(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("echo on", addr)
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { // it ends with its connection
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// ps prints the command line of each process that the container sees, sorted.
func ps() error {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	var lines []string
	for _, path := range found {
		if data, err := os.ReadFile(path); err == nil {
			lines = append(lines, strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " ")))
		}
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	return err
}

// mark makes or removes an empty file.
func mark(file string, there bool) error {
	if there {
		return os.WriteFile(file, nil, 0o644)
	}
	return os.Remove(file)
}
