// SPDX-License-Identifier: Apache-2.0

// Command instancetypes makes the embedded table of pkg/sandbox/aws/instancetypes from DescribeInstanceTypes records.
//
//	go run ./hack/instancetypes --records describe-instance-types.json.gz --prices ondemand.csv --offerings offerings.csv \
//	    --out pkg/sandbox/aws/instancetypes/table.tsv.gz
//
// Records are one JSON object, type name to InstanceTypeInfo in the SDK's field names, gzipped or not. Prices
// (type,USD per hour) and offerings (type,letters of the zones) are CSV files with a header, of us-east-1.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

type options struct {
	records, prices, offerings, out string
	origins                         []string
}

func main() {
	o := options{}
	flag.StringVar(&o.records, "records", "", "DescribeInstanceTypes records, JSON, .gz or plain")
	flag.StringVar(&o.prices, "prices", "", "on-demand prices, CSV: type,usdPerHour")
	flag.StringVar(&o.offerings, "offerings", "", "offerings, CSV: type,azLetters")
	flag.StringVar(&o.out, "out", "", "the table to write, gzipped")
	flag.Func("origin", "a line of attribution above the figures; may be given several times", func(line string) error {
		o.origins = append(o.origins, line)
		return nil
	})
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "instancetypes:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if len(o.origins) == 0 {
		return fmt.Errorf("--origin: say where the figures come from, with licence and date")
	}
	infos, err := readRecords(o.records)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	prices, err := readPairs(o.prices)
	if err != nil {
		return fmt.Errorf("prices: %w", err)
	}
	zones, err := readPairs(o.offerings)
	if err != nil {
		return fmt.Errorf("offerings: %w", err)
	}
	var records []instancetypes.Record
	for name, info := range infos {
		record := instancetypes.Record{Info: info, Zones: zones[name]}
		if text, ok := prices[name]; ok {
			if record.USDPerHour, err = strconv.ParseFloat(text, 64); err != nil {
				return fmt.Errorf("price of %s: %w", name, err)
			}
		}
		records = append(records, record)
	}
	slices.SortFunc(records, func(a, b instancetypes.Record) int {
		return strings.Compare(string(a.Info.InstanceType), string(b.Info.InstanceType))
	})
	return write(o.out, o.origins, records)
}

func write(path string, origins []string, records []instancetypes.Record) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}()
	// No name and time in the gzip header: the same figures make the same bytes.
	compressed, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := instancetypes.Write(compressed, origins, records); err != nil {
		return err
	}
	return compressed.Close()
}

func readRecords(path string) (map[string]ec2types.InstanceTypeInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var plain io.Reader = bufio.NewReader(file)
	if strings.HasSuffix(path, ".gz") {
		if plain, err = gzip.NewReader(plain); err != nil {
			return nil, err
		}
	}
	infos := map[string]ec2types.InstanceTypeInfo{}
	if err := json.NewDecoder(plain).Decode(&infos); err != nil {
		return nil, err
	}
	for name, info := range infos {
		if string(info.InstanceType) != name {
			return nil, fmt.Errorf("record %s is of type %q", name, info.InstanceType)
		}
	}
	return infos, nil
}

// readPairs reads the first two columns of a CSV file with a header.
func readPairs(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, err
	}
	pairs := map[string]string{}
	for _, line := range lines[min(1, len(lines)):] {
		pairs[line[0]] = line[1]
	}
	return pairs, nil
}
