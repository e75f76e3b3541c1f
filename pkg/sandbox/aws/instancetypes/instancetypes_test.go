// SPDX-License-Identifier: Apache-2.0

package instancetypes

import (
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func TestTheEmbeddedTableHasTheFiguresThatDecideAddresses(t *testing.T) {
	for _, row := range []struct {
		name         string
		enis, ips    int32 // on the default card
		vcpus        int32
		memory       int64
		hypervisor   ec2types.InstanceTypeHypervisor
		bareMetal    bool
		architecture ec2types.ArchitectureType
	}{
		{"m5.large", 3, 10, 2, 8192, "nitro", false, "x86_64"},
		{"c5.xlarge", 4, 15, 4, 8192, "nitro", false, "x86_64"},
		{"t3.small", 3, 4, 2, 2048, "nitro", false, "x86_64"},
		{"c7g.medium", 2, 4, 1, 2048, "nitro", false, "arm64"},
		{"m4.large", 2, 10, 2, 8192, "xen", false, "x86_64"},
		{"m5.metal", 15, 50, 96, 393216, "", true, "x86_64"},
		{"p5.48xlarge", 2, 50, 192, 2097152, "nitro", false, "x86_64"},
		{"hpc6id.32xlarge", 1, 50, 64, 1048576, "nitro", false, "x86_64"},
	} {
		t.Run(row.name, func(t *testing.T) {
			info, ok := Info(row.name)
			require.True(t, ok)
			require.Equal(t, row.name, string(info.InstanceType))
			card := info.NetworkInfo.NetworkCards[*info.NetworkInfo.DefaultNetworkCardIndex]
			require.Equal(t, row.enis, *card.MaximumNetworkInterfaces)
			require.Equal(t, row.ips, *info.NetworkInfo.Ipv4AddressesPerInterface)
			require.Equal(t, row.vcpus, *info.VCpuInfo.DefaultVCpus)
			require.Equal(t, row.memory, *info.MemoryInfo.SizeInMiB)
			require.Equal(t, row.hypervisor, info.Hypervisor)
			require.Equal(t, row.bareMetal, *info.BareMetal)
			require.Equal(t, []ec2types.ArchitectureType{row.architecture}, info.ProcessorInfo.SupportedArchitectures)
		})
	}
}

func TestEveryEmbeddedTypeHasWhatKarpenterReads(t *testing.T) {
	require.Greater(t, len(Names()), 1300)
	require.True(t, slices.IsSorted(Names()))
	for _, name := range Names() {
		info, ok := Info(name)
		require.True(t, ok, name)
		require.NotNil(t, info.NetworkInfo, name)
		require.NotEmpty(t, info.NetworkInfo.NetworkCards, name)
		require.NotNil(t, info.NetworkInfo.DefaultNetworkCardIndex, name)
		require.NotNil(t, info.NetworkInfo.Ipv4AddressesPerInterface, name)
		require.NotNil(t, info.VCpuInfo.DefaultVCpus, name)
		require.NotNil(t, info.MemoryInfo.SizeInMiB, name)
		require.NotEmpty(t, info.ProcessorInfo.SupportedArchitectures, name)
		require.NotEmpty(t, info.SupportedUsageClasses, name)
		require.NotEmpty(t, info.SupportedVirtualizationTypes, name)
		require.NotNil(t, info.BareMetal, name)
	}
}

func TestPricesAndZonesAreOfUSEast1(t *testing.T) {
	price, ok := Price("m5.large")
	require.True(t, ok)
	require.InDelta(t, 0.096, price, 1e-9)
	require.Contains(t, ZoneLetters("m5.large"), "abc")
	_, ok = Price("m5.none")
	require.False(t, ok)
	require.Empty(t, ZoneLetters("m5.none"))
	_, ok = Info("m5.none")
	require.False(t, ok)
}

func TestTheTableNamesItsOrigin(t *testing.T) {
	origin := strings.Join(Origin(), "\n")
	require.Contains(t, origin, "Apache-2.0")
	require.Contains(t, origin, "2026-08")
	require.Contains(t, origin, "2026-07-20")
}

func TestWhatWriteWritesReadReads(t *testing.T) {
	var records []Record
	for _, name := range Names() {
		info, _ := Info(name)
		price, _ := Price(name)
		records = append(records, Record{Info: info, USDPerHour: price, Zones: ZoneLetters(name)})
	}
	var text bytes.Buffer
	require.NoError(t, Write(&text, []string{"a line", "another"}, records))
	table, err := Read(&text)
	require.NoError(t, err)
	require.Equal(t, []string{"a line", "another"}, table.Origin())
	for _, r := range records {
		info, ok := table.Info(string(r.Info.InstanceType))
		require.True(t, ok)
		require.Empty(t, cmp.Diff(r.Info, info, cmp.FilterPath(func(p cmp.Path) bool {
			return p.Last().String() == ".noSmithyDocumentSerde"
		}, cmp.Ignore())))
	}
}

func TestATornTableIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no column names":  "# origin\nm5.large\t0.1\tabc\n",
		"a column missing": "InstanceType\t$usdPerHour\t$zones\tBareMetal\nm5.large\t0.1\tabc\n",
		"a bad price":      "InstanceType\t$usdPerHour\t$zones\nm5.large\tcheap\tabc\n",
		"an unknown path":  "InstanceType\t$usdPerHour\t$zones\tNoFigure\nm5.large\t0.1\tabc\t1\n",
		"a bad figure":     "InstanceType\t$usdPerHour\t$zones\tBareMetal\nm5.large\t0.1\tabc\tmaybe\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(text))
			require.Error(t, err)
		})
	}
}

func BenchmarkReadingTheEmbeddedTable(b *testing.B) {
	for b.Loop() {
		plain, err := gzip.NewReader(bytes.NewReader(embedded))
		require.NoError(b, err)
		_, err = Read(plain)
		require.NoError(b, err)
	}
}
