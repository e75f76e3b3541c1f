// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"os"
	"regexp"
)

// row of the page's table of direct dependencies: module, reason, where, licence.
var row = regexp.MustCompile("^\\| `([^`]+)` \\|.*\\| ([^|]+) \\|$")

// readPage returns the licence that the page says of each module.
func readPage(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	says := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if match := row.FindStringSubmatch(lines.Text()); match != nil {
			says[match[1]] = match[2]
		}
	}
	return says, lines.Err()
}
