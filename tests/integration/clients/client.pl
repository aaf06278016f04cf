# IO::Socket::Socks: client.pl connect PROXY PORT ADDRESS NAME ECHO-PORT
#                    client.pl bind PROXY PORT ADDRESS
use strict;
use warnings;
use IO::Socket::Socks;

my ($mode, $proxy, $proxy_port, $address, $name, $port) = @ARGV;
my @common = (ProxyAddr => $proxy, ProxyPort => $proxy_port, SocksVersion => 5, Timeout => 20);
$| = 1;

sub connect_to {
    my ($host) = @_;
    my $socket = IO::Socket::Socks->new(@common, ConnectAddr => $host, ConnectPort => $port)
        or die "connect to $host: $SOCKS_ERROR";
    print $socket "hello\n";
    $socket->flush();
    my $line = <$socket>;
    die "got nothing" unless defined $line && $line eq "hello\n";
    $socket->close();
}

if ($mode eq 'connect') {
    connect_to($address);
    connect_to($name); # looked up by the server
} else {
    my $socket = IO::Socket::Socks->new(@common, BindAddr => $address, BindPort => 0)
        or die "bind: $SOCKS_ERROR";
    my ($host, $bound) = $socket->dst();
    print "bound $host:$bound\n";
    $socket->accept() or die "accept: $SOCKS_ERROR";
    ($host, $bound) = $socket->dst();
    print "peer $host:$bound\n";
    read($socket, my $text, 5);
    die "got $text" unless $text eq 'world';
    print $socket 'hello';
    $socket->flush();
    $socket->close();
}
print "done\n";
