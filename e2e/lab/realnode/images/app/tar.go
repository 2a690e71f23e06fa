package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// called does what a program of that name would, as far as kubectl cp asks for it; false when it is none of them.
func called(program string, args []string) (known bool, err error) {
	switch program {
	case "tar":
		return true, tarCommand(args)
	case "test":
		return true, testCommand(args)
	}
	return false, nil
}

// tarCommand knows `tar -xmf - [-C DIR]` and `tar cf - FILE...`, with - or without, and in any order of the letters.
func tarCommand(args []string) error {
	flags := strings.TrimPrefix(argument(args, 0, ""), "-")
	dir, names := ".", []string(nil)
	for i := 1; i < len(args); i++ {
		switch args[i] {
		case "-C":
			i++
			dir = argument(args, i, ".")
		case "-", "--no-same-permissions", "--no-same-owner":
		default:
			names = append(names, args[i])
		}
	}
	switch {
	case strings.Contains(flags, "x"):
		return unpack(os.Stdin, dir)
	case strings.Contains(flags, "c"):
		return pack(os.Stdout, names)
	}
	return fmt.Errorf("tar cannot %q", flags)
}

func unpack(from io.Reader, dir string) error {
	r := tar.NewReader(from)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = writeFile(path, r)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(path string, from io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

func pack(to io.Writer, names []string) error {
	w := tar.NewWriter(to)
	for _, name := range names {
		err := filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return packOne(w, path, e)
		})
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func packOne(w *tar.Writer, path string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(path, "/")
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// testCommand knows `test -d PATH` and `test -e PATH`.
func testCommand(args []string) error {
	info, err := os.Stat(argument(args, 1, ""))
	if err == nil && args[0] == "-d" && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", args[1])
	}
	return err
}
